"""The quantized leaky integrate-and-fire neuron.

For every time step t, with the input current I and the stored membrane v (v = 0 before the first step)::

    u[t] = leak * v[t-1] + (I[t] if v[t-1] >= skip_below else 0)
    s[t] = 1 if u[t] > 1 else 0
    v[t] = Q(0 if s[t] else u[t])

The threshold is 1, the reset is hard, and Q (:func:`spquant_search.snn.quantize.quantize_membrane`) acts on what is
carried on, not on what is compared with the threshold (SpQuant-SNN, released code). Gradients: the spike's is the
triangle max(0, 1 - |u - 1|) (TET); Q's is the closed form of the stacked surrogate; the reset is not detached.

A layer may learn its threshold theta (LT-SNN). Its neuron then sees I / theta, so that all of the above holds in units
of theta: spikes above theta, a stored membrane theta * Q(u / theta), a cut at theta * skip_below, and the triangle
max(0, 1 - |u - theta| / theta) / theta, which makes the spike's derivative by theta -u / theta times that. What is
learned is log theta, so that theta stays positive. Training and evaluation alike take 1 / theta rounded to sixteenths:
of the threshold and its reciprocal the one that a device multiplies by, so that currents that are whole numbers in some
unit, sums of spikes in attention and residuals among them, are whole numbers in a sixteenth of it, exactly.

There are two implementations. :func:`step` is one time step, differentiated by autograd, for reading and checking.
:func:`fire` is what networks run: all time steps in one forward and one analytic backward function, each compiled
once for every number of levels, layer and batch size.
"""
