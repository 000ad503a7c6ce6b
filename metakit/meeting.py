"""Where the processes of a run meet before JAX starts its own service at the same address.

Process 0 listens at the coordinator's address, and the others call. Each side shows that it knows
the token of the run. The token itself is never sent, only an HMAC (RFC 2104) of the other side's
random number. So a stranger cannot join, end or hold up a run.

This does not protect everything. Nothing is encrypted. JAX's service and the exchange of arrays,
which follow, need no token, so use a network that can be trusted. Without a launcher the token is
empty, which anybody can guess, unless METAKIT_TOKEN is set in all processes.
"""

import asyncio
import contextlib
import functools
import hmac
import ipaddress
import secrets
import socket
import struct
import time
from typing import NamedTuple

from metakit.cluster import Cluster, address_of

TOKEN = 'METAKIT_TOKEN'  # the environment variable that holds the token
PAUSE = 0.2  # seconds between attempts to connect
HELLO, GO = 'metakit', 'go'
LONGEST = 256  # the most bytes of the line that a caller sends
PATIENCE = 5.0  # seconds that a caller may take to send it
MOST_STRANGERS = 256  # callers that have not shown the token yet; the oldest is cut off
AT_ONCE = struct.pack('ii', 1, 0)  # SO_LINGER: after such a close the address is free at once
# Errors of a caller that has gone, is late, or is not of this program.
FAILURES = OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError


class Meeting(NamedTuple):
  """What process 0 knows.

  Attributes:
    cluster: the processes that are to come.
    token: token of the run.
    there: number of a process that has come -> the task that talks to it.
    strangers: tasks that talk to who has not said who it is, the oldest first.
    turned_away: how often another token was shown.
    ended: what goes wrong, None if nothing does; set when everybody can be told.
  """

  cluster: Cluster
  token: str
  there: dict[int, asyncio.Task]
  strangers: dict[asyncio.Task, None]
  turned_away: list[str]
  ended: asyncio.Future[Exception | None]


def meet(cluster: Cluster, seconds: float, token: str = '') -> None:
  """Waits until every process of a cluster has said that it is there.

  Process 0 listens at the coordinator's address, which is free again afterwards.

  Args:
    cluster: the processes, and which one this is.
    seconds: how long to wait.
    token: what the processes of this run alone know.

  Raises:
    ValueError: if two processes have one number, or count differently.
    TimeoutError: after `seconds`.
    OSError: if the port is taken.
  """
  asyncio.run((_gather if cluster.rank == 0 else _report)(cluster, seconds, token))


def own_address(host: str) -> str:
  """Returns the address of this machine that a coordinator's name stands for.

  It is '', which means all addresses, if other machines cannot reach the one of the name. This is
  so behind address translation, and where the machine's own name means loopback (Debian's
  127.0.1.1).

  Raises:
    OSError: if there is no such name.
  """
  try:
    family, _, _, _, place = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
  except OSError as error:
    raise OSError(
      error.errno, f'the coordinator {host} has no address ({error.strerror})'
    ) from error
  address = str(place[0])
  loopback = ipaddress.ip_address(address.partition('%')[0]).is_loopback
  if loopback and host not in ('localhost', address):
    return ''
  try:
    socket.create_server((address, 0), family=family).close()
  except OSError:
    return ''
  return address


def bind_address(coordinator: str) -> str | None:
  """Returns where JAX's service is to listen; None for all addresses.

  Raises:
    OSError: if the coordinator has no address.
  """
  host, port = address_of(coordinator)
  address = own_address(host)
  return (f'[{address}]:{port}' if ':' in address else f'{address}:{port}') if address else None


async def _gather(cluster: Cluster, seconds: float, token: str) -> None:
  host, port = address_of(str(cluster.coordinator))
  ended = asyncio.get_running_loop().create_future()
  meeting = Meeting(cluster, token, {}, {}, [], ended)
  try:
    server = await asyncio.start_server(
      functools.partial(_receive, meeting),
      own_address(host) or None,
      port,
      limit=LONGEST,
      backlog=cluster.processes + MOST_STRANGERS,
    )
  except OSError as error:
    raise OSError(
      error.errno,
      f'port {port} of the coordinator cannot be used ({error.strerror}); use another',
    ) from error
  await asyncio.wait({ended}, timeout=seconds)
  if not ended.done():
    missing = sorted(set(range(1, cluster.processes)) - meeting.there.keys())
    others = f'; callers with another {TOKEN} came' if meeting.turned_away else ''
    ended.set_result(
      TimeoutError(f'processes {missing} did not come within {seconds:g} s; see their logs{others}')
    )
  server.close()
  for stranger in meeting.strangers:
    stranger.cancel()
  if meeting.there:
    await asyncio.wait(meeting.there.values(), timeout=PATIENCE)
  if (wrong := ended.result()) is not None:
    raise wrong


async def _receive(
  meeting: Meeting, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
  """Talks to who calls, from the first word to the last."""
  task = asyncio.current_task()
  assert task is not None
  writer.get_extra_info('socket').setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
  meeting.strangers[task] = None
  if len(meeting.strangers) > MOST_STRANGERS:
    next(iter(meeting.strangers)).cancel()
  try:
    async with asyncio.timeout(PATIENCE):
      said = await _hear(meeting, reader, writer)
    del meeting.strangers[task]
    if said is not None:
      await _keep(meeting, *said, reader, writer, task)
  except (*FAILURES, asyncio.CancelledError):
    pass  # a stranger, or one that has gone
  finally:
    meeting.strangers.pop(task, None)
    writer.transport.abort()


async def _hear(
  meeting: Meeting, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[int, int, str] | None:
  """Returns the number of a caller, how many processes it counts, and its random number.

  None is who knows another token, or was late.

  Raises:
    ValueError: if a stranger speaks.
  """
  nonce = secrets.token_hex(16)
  writer.write(f'{HELLO} {nonce}\n'.encode())
  number, processes, theirs, proof = (await reader.readuntil()).decode().split()
  if not _is_proof(proof, meeting.token, HELLO, nonce, number, processes, theirs):
    meeting.turned_away.append(number)
    return None
  return None if meeting.ended.done() else (int(number), int(processes), theirs)


async def _keep(
  meeting: Meeting,
  number: int,
  processes: int,
  nonce: str,
  reader: asyncio.StreamReader,
  writer: asyncio.StreamWriter,
  task: asyncio.Task,
) -> None:
  """Notes that a process is there, and tells it when all are, or what is wrong."""
  there, cluster, ended = meeting.there, meeting.cluster, meeting.ended
  if processes != cluster.processes:
    wrong = f'process {number} counts {processes} processes, process 0 {cluster.processes}'
    ended.set_result(ValueError(wrong))
    number = -1 - len(there)
  elif number in there or not 0 < number < cluster.processes:
    wrong = f'two processes have the number {number}; give each its own rank=I'
    ended.set_result(ValueError(wrong))
    number = -1 - len(there)
  there[number] = task
  if len(there) + 1 == cluster.processes and not ended.done():
    ended.set_result(None)
  gone = asyncio.ensure_future(reader.read(1))
  either: set[asyncio.Future] = {gone, ended}
  await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
  if not ended.done():
    del there[number]  # the process has gone, and may come again
    return
  answer = GO if ended.result() is None else str(ended.result())
  writer.write(f'{_prove(meeting.token, nonce, answer)} {answer}\n'.encode())
  await gone  # the caller closes first, so that the address does not stay in use


async def _report(cluster: Cluster, seconds: float, token: str) -> None:
  until = time.monotonic() + seconds
  answer, turned_away = '', False
  while not answer and (left := until - time.monotonic()) > 0:
    with contextlib.suppress(*FAILURES):
      async with asyncio.timeout(left + PATIENCE):  # process 0 gives up first
        answer = await _ask(cluster, token)
        turned_away = not answer
    if not answer:
      await asyncio.sleep(PAUSE)
  if not answer:
    other = f' It turns this one away: is {TOKEN} the same?' if turned_away else ''
    raise TimeoutError(
      f'no answer of process 0 at {cluster.coordinator} within {seconds:g} s; is it running, and '
      f'the port open?{other}'
    )
  if answer != GO:
    raise ValueError(f'process 0 says: {answer}')


async def _ask(cluster: Cluster, token: str) -> str:
  """Says that this process is there; returns the answer, '' if process 0 knows another token.

  Raises:
    OSError: if nobody listens.
    ValueError: if it is not process 0 who speaks.
  """
  async with asyncio.timeout(PATIENCE):
    reader, writer = await asyncio.open_connection(*address_of(str(cluster.coordinator)))
  try:
    async with asyncio.timeout(PATIENCE):
      hello, nonce = (await reader.readuntil()).decode().split()
    if hello != HELLO:
      raise ValueError(f'{cluster.coordinator} is not process 0')
    said = str(cluster.rank), str(cluster.processes), secrets.token_hex(16)
    writer.write(' '.join([*said, _prove(token, HELLO, nonce, *said)]).encode() + b'\n')
    try:
      proof, _, answer = (await reader.readline()).decode().rstrip('\n').partition(' ')
    except ConnectionError:  # process 0 cuts off a caller that shows another token
      return ''
    return answer if _is_proof(proof, token, said[-1], answer) else ''
  finally:
    writer.transport.abort()


def _prove(token: str, *words: str) -> str:
  """Returns a proof that its sender knows the token. It is valid for these words alone."""
  return hmac.new(token.encode(), ' '.join(words).encode(), 'sha256').hexdigest()


def _is_proof(proof: str, token: str, *words: str) -> bool:
  return hmac.compare_digest(proof.encode(), _prove(token, *words).encode())
