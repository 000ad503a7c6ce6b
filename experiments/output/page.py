"""The HTML of a page: its frame and style, sections and tables. All text is escaped."""

import html
from collections.abc import Iterable
from typing import Any


def page(title: str, body: str) -> str:
  """Returns a whole HTML page of a title (escaped) and a body (HTML)."""
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<title>{escaped(title)}</title><style>{STYLE}</style></head>\n'
    f'<body><main>\n{body}</main></body></html>\n'
  )


def escaped(value: Any) -> str:
  return html.escape(str(value))


def escaped_cell(value: Any) -> str:
  # A long spec breaks between its arguments.
  return escaped(value).replace(':', ':<wbr>').replace(',', ',<wbr>')


def section(title: str, body: str) -> str:
  return f'<section><h2>{escaped(title)}</h2>\n{body}</section>\n' if body else ''


def heading(title: str) -> str:
  """Returns a heading within a section."""
  return f'<h3>{escaped(title)}</h3>\n'


def figure(drawn: str, note: str = '') -> str:
  """Returns a figure of an <svg> or the like, with what it shows in words (escaped) below it."""
  caption = f'<figcaption class="note">{escaped(note)}</figcaption>' if note else ''
  return f'<figure>{drawn}{caption}</figure>'


def details(summary: str, body: str) -> str:
  """Returns what is shown on demand."""
  return f'<details><summary>{escaped(summary)}</summary>{body}</details>'


def unseen(text: str) -> str:
  """Returns words for those who listen to a page; they see nothing of colours and places."""
  return f'<span class="unseen">{escaped(text)}</span>'


def table(
  heads: Iterable[str],
  rows: Iterable[Iterable[Any]],
  label: str,
  *,
  numbers: bool = False,
) -> str:
  """Returns a table of escaped cells; the first cell of a row is its head if it says something.

  Args:
    heads: names of the columns.
    rows: the rows.
    label: what the table is, for those who listen to the page; of no other table of the page.
    numbers: whether cells are short, and stay on one line.
  """
  head = ''.join(f'<th scope="col">{escaped(name)}</th>' for name in heads)
  body = ''
  for first, *rest in rows:
    cells = ''.join(f'<td>{escaped_cell(cell)}</td>' for cell in rest)
    kind = 'th scope="row"' if str(first) else 'td'
    body += f'<tr><{kind}>{escaped_cell(first)}</{kind[:2]}>{cells}</tr>\n'
  head = f'<thead><tr>{head}</tr></thead>' if head else ''
  style = ' class="numbers"' if numbers else ''
  return wide(f'<table{style}>{head}<tbody>{body}</tbody></table>', label)


def command(text: str) -> str:
  """Returns a command to be copied; it is broken between its words."""
  words = ''.join(f'<span>{escaped(word)}</span> ' for word in text.split(' ')).rstrip()
  return f'<pre tabindex="0"><code>{words}</code></pre>'


def wide(body: str, label: str) -> str:
  """Returns what may be wider than the page. It scrolls by itself, with the keyboard too."""
  return f'<div class="wide" tabindex="0" role="region" aria-label="{escaped(label)}">{body}</div>'


STYLE = """
:root { color-scheme: light dark; --font: system-ui, 'Segoe UI', Roboto, Arial, sans-serif;
  --paper: #fff; --ink: #1f2328; --soft: #59636e; --line: #d8dee4; --panel: #f6f8fa;
  --train: #1f6feb; --validation: #bc4c00; --good: #1a7f37; --bad: #cf222e;
  --run0: #1f6feb; --run1: #bc4c00; --run2: #1a7f37; --run3: #8250df; --run4: #cf222e;
  --run5: #0a7d91; --run6: #7d4e00; --run7: #bf3989; }
@media (prefers-color-scheme: dark) { :root { --paper: #0d1117; --ink: #e6edf3; --soft: #9198a1;
  --line: #30363d; --panel: #151b23; --train: #58a6ff; --validation: #f0883e; --good: #3fb950;
  --bad: #f85149; --run0: #58a6ff; --run1: #f0883e; --run2: #3fb950; --run3: #bc8cff;
  --run4: #ff7b72; --run5: #39c5cf; --run6: #d4a72c; --run7: #f778ba; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 var(--font); }
main { max-width: 980px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { margin: 0; font-size: 22px; }
h2 { margin: 40px 0 12px; padding-bottom: 6px; font-size: 17px;
  border-bottom: 1px solid var(--line); }
.result { margin: 12px 0 0; font-size: 46px; font-weight: 650; line-height: 1.15; }
.interval { font-size: 26px; font-weight: 400; color: var(--soft); }
header p { margin: 4px 0 0; }
.note, dt, summary { color: var(--soft); font-size: 13px; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)); gap: 12px 24px;
  margin: 20px 0 0; padding: 16px; background: var(--panel); border-radius: 8px; }
dd { margin: 0; overflow-wrap: break-word; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(400px, 1fr)); gap: 16px; }
h3 { margin: 24px 0 8px; font-size: 15px; }
figure { margin: 0; }
figcaption { max-width: 680px; margin-top: 4px; }
svg { display: block; width: 100%; max-width: 600px; height: auto; }
.warning { padding: 8px 12px; border-left: 3px solid var(--validation); background: var(--panel); }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; }
:focus-visible { outline: 2px solid var(--train); outline-offset: 2px; }
summary { cursor: pointer; padding: 6px 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; }
th, td { padding: 4px 20px 4px 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { font-weight: 500; }
thead th { color: var(--soft); font-weight: 400; }
.numbers th, .numbers td { white-space: nowrap; }
.matrix { font-size: 12.5px; }
.matrix td { padding: 2px 5px; text-align: right; min-width: 28px;
  background: color-mix(in srgb, var(--train) calc(0.6 * var(--heat, 0%)), transparent); }
.matrix .own { font-weight: 600; }
.matrix thead th { text-align: right; padding: 2px 5px; }
.matrix tbody th { white-space: nowrap; padding: 2px 12px 2px 0; }
.episode th, .episode td { vertical-align: middle; padding: 8px 20px 8px 0; }
ul, ol { display: flex; flex-wrap: wrap; gap: 8px; margin: 0; padding: 0; list-style: none; }
li { text-align: center; }
.episode li { max-width: 112px; overflow-wrap: anywhere; line-height: 1.3; }
li img { display: block; width: 56px; height: 56px; object-fit: contain; image-rendering: pixelated;
  margin: 0 auto; border: 1px solid var(--line); border-radius: 4px; }
li.right, li.wrong { min-width: 64px; font-size: 12.5px; }
li small { color: var(--soft); }
li.right span { color: var(--good); }
li.wrong span { color: var(--bad); font-weight: 600; }
li.wrong img { outline: 2px solid var(--bad); border-color: transparent; }
h3 { margin: 20px 0 8px; font-size: 15px; font-weight: 600; }
.small { font-size: 32px; }
.photos li { width: 116px; font-size: 13px; overflow-wrap: anywhere; }
.photos img { width: 112px; height: 112px; image-rendering: auto; }
.photos span, .photos small { display: block; }
.texts { display: block; padding-left: 20px; list-style: disc; }
.texts li { text-align: left; }
pre { margin: 0 0 16px; padding: 14px 16px; background: var(--panel); border-radius: 8px;
  white-space: pre-wrap; overflow-x: auto; user-select: all; }
pre span { white-space: nowrap; }
@media (max-width: 520px) { .figures { grid-template-columns: 1fr; }
  main { padding: 20px 14px 48px; } .result { font-size: 38px; } .interval { font-size: 22px; }
  dl { grid-template-columns: 1fr; } th, td { padding-right: 12px; }
  .stacked thead { position: absolute; clip-path: inset(50%); }
  .stacked, .stacked tbody, .stacked tr, .stacked th, .stacked td { display: block; }
  .stacked th, .stacked td { border: 0; padding: 4px 0; }
  .stacked tr { padding: 8px 0; border-bottom: 1px solid var(--line); } }
@media print { section { break-inside: avoid; } }
"""
