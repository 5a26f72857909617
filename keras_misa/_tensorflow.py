"""What only TensorFlow needs in layers and models; nothing here is imported on other backends."""

import tensorflow as tf


def num_replicas():
    """By how many replicas Keras has divided the total loss: more than one under a `tf.distribute` strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def gather_rows(arrays):
    """The rows of all replicas, in each of them; the shares may differ in size, and one may be empty.

    The gradient of what every replica computes from all rows, divided by the number of replicas as Keras divides
    losses, and summed over the replicas as its optimisers do, is that of a single device.
    """
    if not _is_replica():
        return arrays

    def gather(array):
        if array is None:
            return None
        gathered = tf.distribute.get_replica_context().all_gather(array, axis=0)
        return tf.ensure_shape(gathered, [None, *array.shape[1:]])  # which it has forgotten, rank and all

    return tf.nest.map_structure(gather, arrays)


def sum_replicas(gradients):
    """Gradients summed over the replicas; those that are `None` stay."""
    if not _is_replica():
        return gradients
    present = [gradient for gradient in gradients if gradient is not None]
    summed = iter(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, present))
    return [gradient if gradient is None else next(summed) for gradient in gradients]


def first_share(strategy, batch):
    """The share of a batch that the first replica got."""
    return tf.nest.map_structure(lambda x: strategy.experimental_local_results(x)[0], batch)


def _is_replica():
    return num_replicas() > 1 and not tf.distribute.in_cross_replica_context()


def sum_rows(gradient):
    """A gradient as one array: that of a look-up, a row for each id, becomes a row for each row of the table."""
    return tf.convert_to_tensor(gradient)  # Keras's function of this name leaves the rows as they are


@tf.custom_gradient
def with_dense_gradient(table):
    """The table itself, with a gradient that has one row for each of its rows.

    That of a look-up has a row for each id. Keras's optimisers clip and square those one by one, which is wrong for an
    id that stands in a batch twice: its gradient is the sum.
    """
    return tf.identity(table), tf.convert_to_tensor


def apply_adam(optimizer, gradient, variable, momentum, velocity, rate, corrected=False):
    """The update of Adam as one operation, in place of some twenty.

    Args:
        optimizer: says how many steps were taken, and β₁, β₂ and ε.
        gradient: tensor.
        variable: `tf.Variable`, as momentum and velocity are.
        momentum: of the gradient.
        velocity: of its square.
        rate: learning rate.
        corrected: whether ε is added to the root of the velocity after that was corrected, as in PyTorch, or before, as
            in Keras. In one formula with the other, ε is the smaller by the correction.
    """
    dtype = variable.dtype
    step = tf.cast(optimizer.iterations + 1, dtype)
    betas = [tf.cast(beta, dtype) for beta in (optimizer.beta_1, optimizer.beta_2)]
    powers = [beta**step for beta in betas]
    epsilon = tf.cast(optimizer.epsilon, dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=momentum.handle,
        v=velocity.handle,
        beta1_power=powers[0],
        beta2_power=powers[1],
        lr=tf.cast(rate, dtype),
        beta1=betas[0],
        beta2=betas[1],
        epsilon=epsilon * tf.sqrt(1 - powers[1]) if corrected else epsilon,
        grad=tf.cast(gradient, dtype),
    )
