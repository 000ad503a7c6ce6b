"""Faults in networks, and in what makes models of them."""

from tests.faults.fault import Fault

ATTENTION = 'metakit/networks/attention.py'
DROPPED = 'networks/test_dropblock.py::'
SEQUENCE = 'networks/test_sequence.py::'

FAULTS = (
  Fault(
    'a weighted variance is of all rows',
    'metakit/networks/normalisation.py',
    'total = jnp.maximum(weight.sum(), jnp.finfo(x.dtype).tiny)',
    'total = jnp.asarray(rows, x.dtype)',
    'networks/test_normalisation.py::test_weighted_moments_are_those_of_the_kept_rows',
  ),
  Fault(
    'the variance is that of a sample',
    'metakit/networks/normalisation.py',
    'return mean, _total(centred * weighted, rows=centred.shape[0]) / total',
    'return mean, _total(centred * weighted, rows=centred.shape[0]) / (total - 1)',
    'networks/test_normalisation.py::test_batch_norm_uses_the_moments_of_its_examples',
  ),
  Fault(
    'a token does not see itself',
    ATTENTION,
    'before = order <= last[:, None]  # [read, cached + read]',
    'before = order < last[:, None]  # [read, cached + read]',
    'networks/test_attention.py::test_attention_is_the_softmax_average',
  ),
  Fault(
    'scores are not scaled by the size of a head',
    ATTENTION,
    'weights = jax.nn.softmax(scores / query.shape[-1] ** 0.5).astype(cache.value.dtype)',
    'weights = jax.nn.softmax(scores / query.shape[-1]).astype(cache.value.dtype)',
    'networks/test_attention.py::test_attention_is_the_softmax_average',
  ),
  Fault(
    'padding takes time from momentum',
    ATTENTION,
    'time = jnp.append(0, jnp.cumsum(present)).astype(before.dtype)  # [1 + n]',
    'time = jnp.arange(1 + len(present)).astype(before.dtype)  # [1 + n]',
    f'{SEQUENCE}test_padding_has_no_effect[momentum]',
  ),
  Fault(
    'linear attention forgets what it read before',
    ATTENTION,
    'return outputs, update if state is None else state + update',
    'return outputs, update',
    f'{SEQUENCE}test_reading_can_stop_and_go_on[linear]',
  ),
  Fault(
    'positions start anew where reading goes on',
    'metakit/networks/transformer.py',
    'time = begun + jnp.append(0, jnp.cumsum(present))',
    'time = jnp.append(0, jnp.cumsum(present))',
    f'{SEQUENCE}test_reading_can_stop_and_go_on[positions]',
  ),
  Fault(
    'a recurrent network reads padding',
    'metakit/networks/recurrent.py',
    'after = jax.tree.map(lambda a, b: jnp.where(token[1], a, b), after, before)',
    'after = jax.tree.map(lambda a, b: a, after, before)',
    f'{SEQUENCE}test_padding_has_no_effect[lstm]',
  ),
  Fault(
    'the kernel is not turned for the gradient of the input',
    'metakit/networks/convolution_products.py',
    'turned = jnp.swapaxes(kernel[..., ::-1, ::-1, :, :], -1, -2)',
    'turned = jnp.swapaxes(kernel, -1, -2)',
    'networks/test_convolution.py::test_it_is_the_convolution_to_the_second_derivative',
  ),
  Fault(
    'rows and columns are padded behind first',
    'metakit/networks/convolution_products.py',
    'return [(pad // 2, pad - pad // 2) for pad in total]',
    'return [(pad - pad // 2, pad // 2) for pad in total]',
    'networks/test_convolution.py::test_it_is_the_convolution_to_the_second_derivative',
  ),
  Fault(
    'a tie gives its gradient to all',
    'metakit/networks/pooling.py',
    'return _pick(x, _largest(compared))',
    'del compared\n  return x.reshape(len(x), rows, 2, columns, 2, -1).max((2, 4))',
    'networks/test_convolution.py::test_a_tie_gives_its_gradient_to_one_place',
  ),
  Fault(
    'the smallest is taken where the scale is positive',
    'metakit/networks/pooling.py',
    'jnp.where(sign < 0, -x, x)',
    'jnp.where(sign > 0, -x, x)',
    'networks/test_normalisation.py::test_pooling_first_is_pooling_afterwards_to_the_second_derivative',
  ),
  Fault(
    'a context of zeros makes features zero',
    'metakit/networks/conv4.py',
    'return x * (1 + scale).astype(x.dtype) + shift.astype(x.dtype)',
    'return x * scale.astype(x.dtype) + shift.astype(x.dtype)',
    'learners/test_laws.py::test_loss_predictions_and_gradient_are_the_golden_ones[cavia:conv4]',
  ),
  Fault(
    'the slope of the leaky ReLU of ResNet-12 is that of Flax',
    'metakit/networks/resnet12.py',
    'SLOPE = 0.1\n',
    'SLOPE = 0.01\n',
    'networks/test_backbones.py::test_residual_blocks_are_their_formula',
    added=True,
  ),
  Fault(
    'pooled variances lack that of the means',
    'metakit/batch_statistics.py',
    "'var': var.mean(0) + mean.var(0)",
    "'var': var.mean(0)",
    'test_models.py::test_several_batches_calibrate_to_their_pooled_moments',
  ),
  Fault(
    'every call of a network drops the same',
    'metakit/models.py',
    'return partial(apply, key=key if call is None else jax.random.fold_in(key, call))',
    'return partial(apply, key=key)',
    'learners/test_own_networks.py::test_each_inner_step_drops_others',
  ),
  Fault(
    'the derivative of a factorisation counts its diagonal twice',
    'metakit/linear_algebra.py',
    'lower = jnp.tril(middle) - jnp.diag(jnp.diagonal(middle)) / 2',
    'lower = jnp.tril(middle)',
    'test_linear_algebra.py::test_values_and_both_derivatives_are_those_of_the_dense_inverse',
  ),
  Fault(
    'DropBlock forgets that a square covers many places',
    'metakit/networks/dropblock.py',
    'return rate / size**2 * (height * width)',
    'return rate / size * (height * width)',
    f'{DROPPED}test_squares_start_as_often_as_the_paper_says_and_what_is_left_is_scaled',
  ),
  Fault(
    'DropBlock counts absent examples',
    'metakit/networks/dropblock.py',
    'return weight.sum() / jnp.maximum(weight @ of_each, 1e-12)',
    'return len(weight) / jnp.maximum(of_each.sum(), 1e-12)',
    f'{DROPPED}test_squares_start_as_often_as_the_paper_says_and_what_is_left_is_scaled',
  ),
  Fault(
    'ResNet-12 drops at test time',
    'metakit/networks/resnet12.py',
    'if training and self.drop:',
    'if self.drop:',
    f'{DROPPED}test_resnet12_drops_in_training_alone',
  ),
  Fault(
    'the first examples of a sum are added twice',
    'metakit/networks/blocks.py',
    'lax.dynamic_slice_in_dim(a, rest + i * size, size)',
    'lax.dynamic_slice_in_dim(a, i * size, size)',
    'networks/test_convolution.py::test_blocks_of_examples_or_tasks_change_nothing',
  ),
)
