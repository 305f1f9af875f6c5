"""The quantized leaky integrate-and-fire neuron.

For every time step t, with the input current I and the stored membrane v (v = 0 before the first step)::

    u[t] = leak * v[t-1] + (I[t] if v[t-1] >= skip_below else 0)
    s[t] = 1 if u[t] > 1 else 0
    v[t] = Q(0 if s[t] else u[t])

The threshold is 1, the reset is hard, and Q (:func:`spquant_search.snn.quantize.quantize_membrane`) acts on what is
carried on, not on what is compared with the threshold (SpQuant-SNN, released code). Gradients: the spike's is the
triangle max(0, 1 - |u - 1|) (TET); Q's is the closed form of the stacked surrogate; the reset is not detached.

A layer's neurons may have another form (:class:`spquant_search.space.neuron_form.NeuronForm`)::

    s[t] = 1 if u[t] >= 1 else 0                          spike_at_threshold
    v[t] = Q(u[t] - R * s[t])     R = 1, or 1 / leak      reset "subtract", "delayed-subtract"

A reset that comes one step later, u[t] = leak * u[t-1] + I[t] - s[t-1], is that with R = 1 / leak, as
leak * (u - s / leak) is leak * u - s. The leak may be learned: the parameter is its logit, so that it stays between 0
and 1. Quantized neurons leak by whole 4096ths and subtract whole 2^-20 thresholds, the nearest ones; neurons in
floating point do as they were told. What is compared and how it is reset is code (:mod:`rule`), the leak and R are
data.

A layer may learn its threshold theta (LT-SNN). Its neuron then sees I / theta, so that all of the above holds in units
of theta: spikes above theta, a stored membrane theta * Q(u / theta), a cut at theta * skip_below, and the triangle
max(0, 1 - |u - theta| / theta) / theta, which makes the spike's derivative by theta -u / theta times that. The
learned parameter is log theta, so that theta stays positive. Training and evaluation alike round 1 / theta, by which a
device multiplies, to sixteenths: a current that is a whole number in some unit, as sums of spikes in attention and
residuals are, is exactly a whole number in a sixteenth of it.

The modules: :mod:`reference` is one time step, differentiated by autograd, for reading and checking. :mod:`training`
has all time steps in one forward and one analytic backward function, :mod:`exact` those of evaluation, in which no
number is rounded; each is compiled once for every number of levels, layer and batch size. :mod:`parameters` holds the
numbers that they work with, and :mod:`module` the neurons of a layer as networks use them.
"""
