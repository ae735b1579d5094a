"""What `docs/results/evaluation.md` says beside its tables; see `benchmarks.autoattack_page`."""

from benchmarks.autoattack_networks import STEPS

PAGE = """# The evaluation against AutoAttack

The evaluation's own code against `pyautoattack` 0.2.0. The two sides draw different random numbers, so that an image on the
edge may fall on one side only.
"""
MANY = """## Robust accuracy on photographs

CIFAR-10, networks with {widths} channels trained on {train} images for {epochs} epochs: without an attack (undefended), by
TRADES-{steps} (robust), and the undefended one behind a rounding of its input, which has no gradient (masked). Both sides get
the first test images of a random order, in portions of {portion}: the reference as `AutoAttack(version="standard")`, the
evaluation with `attacks: standard`. Seconds are those of the cores, since other programs may have run meanwhile: with few
threads they are fewer, for threads that wait for each other count too. Intervals are score intervals for paired proportions
(Tango 1998).

"""
OTHERWISE = """## Robust accuracy on photographs, {norm}

Two of these networks, under threats of another norm.

"""
WIDE = """## Speed on photographs

The same with {widths} channels, {epochs} epochs and TRADES-{steps}: as wide as networks of the literature, and less deep. All
three meet the usual radius. One portion of {portion} images, which is one batch of the reference's; the evaluation's is as
large as usual ({batch} rows). Seconds are those of the clock: nothing else should run meanwhile. Where few images stand, the
evaluation fills its batches: targets, and queries of Square, go through the network side by side. The more images stand, the
less there is to gain by that. Each side was timed once: a ratio close to 3 may come out on the other side of it in another
hour.

"""
WIDE_OTHERWISE = """## Speed on photographs, {norm}

Two of these networks, on the same images, under threats of another norm. Square moves the perturbation between two squares
there. In L2 the first layers are computed only where these reach; in L1 the projection changes other pixels, too, so that all
of the network is computed for each query.

"""
DEEP = """## Speed on photographs, PreAct-ResNet-18

The same in L-inf with PreAct-ResNet-18, the network of most of the literature ({widths} channels), {epochs} epochs and
TRADES-{steps}. One portion of {portion} images.

"""
ATTACKS = """## Attack by attack

The networks of the agreement, under all three norms, on the first test images that they have right. Every attack meets all
images, so that attacks can be compared one by one (in use, each meets only what still stands); `standard` is the worst of
its four. `apgd-dlr` and `fab` belong to `plus`, here with one attempt. "Only ours" counts images that survive our side and
not the reference's. Attacks draw random numbers: images on the edge fall on one side or the other.

"""
NETWORKS = f"""## Speed by size of the network

As the attacks cost where every image survives: networks as initialised on random pixels, in a ball too small for any to
fall in. Steps towards one class ({", ".join(f"{name} {few} and {more}" for name, (few, more) in STEPS.items())}), scaled
to the budgets of AutoAttack with ten classes by the difference between the two, so that what does not grow with the steps
counts once; on quick networks so many times as many, as the table says. Here all 3x3 convolutions but the first are computed
by Winograd's algorithm, norms, SiLUs and sums while the outputs of the convolutions before them are in the cache, and Square
computes the first stage only where its squares reach; they shrink as over the whole budget.

How large the lead is depends on the CPU. The share of the peak is what the reference spends on its 9,700 passes, in
operations of direct convolutions a second, over those of the best direct convolution on this machine: where it is near 1,
only fewer operations (Winograd's) or shorter numbers are left to gain. The ratio at the floor is what it would be if the
same passes, whole ones, took nothing but the multiplications that they need here, at that speed. The last column is what
the ratio would be if all attacks but Square ran in bfloat16 and nothing had to be asked again in float32: the single passes
of a network, timed in both. They do not: it would be less than that.

"""
OUTSIDE = """Images of the reference that are outside the ball (by more than a ten-thousandth of its radius) count as surviving:

"""
SIGNS = "Signs of masked gradients that are raised:\n\n"
