"""A network's first convolution, of 3x3 pixels of few channels, with their normalisation; and the way back to the pixels.

Winograd's algorithm has nothing to gain where channels are fewer than the numbers of a vector register. Here tiles of STEP
pixels' side meet all taps of their pixels at once: those of one line of a kernel are neighbours in memory. Images and maps
are (N, H, W, C) float32, C-contiguous; a tile is one of the map, counted row by row, image after image. No sum depends on how
work is divided.
"""

from numba import njit, prange
from numba.extending import register_jitable

from ops.models.kernels.compiling import INNER, OPTIONS
from ops.models.kernels.finish import finish
from ops.models.kernels.panels import LINES, pixel_panel
from ops.models.kernels.vectors import LANES
from ops.models.schemes import SIDE, STEP


@register_jitable
def seen(stride):  # type: ignore[no-untyped-def]
    """Return the side of the square of pixels that a tile of the map sees."""
    return (STEP - 1) * stride + SIDE


@njit(**INNER)
def read_pixels(image, top, left, mean, std, pixels):  # type: ignore[no-untyped-def]
    """Put a square of an image (H, W, C), normalised, into `pixels` (side, side C); what lies outside is 0."""
    height, width, channels = image.shape
    side = len(pixels)
    first, last = max(0, -left) * channels, min(side, width - left) * channels
    for i in range(side):
        if top + i < 0 or top + i >= height:
            pixels[i] = 0
            continue
        line = image[top + i].reshape(-1)
        pixels[i, :first] = 0
        for q in range(first, last):
            pixels[i, q] = (line[left * channels + q] - mean[q]) / std[q]
        pixels[i, max(first, last) :] = 0


@njit(**OPTIONS)
def convolve(  # type: ignore[no-untyped-def]
    images, mean, std, stride, before, kernel, made, places, memory, finishing, active, norm
):
    """Put the tiles at `places` (T,) of the normalised `images` (N, H, W, C), convolved, into `made` (N, h, w, K).

    `mean` and `std` are those of `seen(stride)` pixels in a line, `before` (2,) the pixels that are padded above and on the
    left, and `kernel` (K / width, 9 C, width) the taps, line by line, for vectors of outputs. What a thread works on is in
    its row of `memory` (threads, `working_memory`). `finish` says what becomes of the outputs, and of the flat map `active`, by
    the kind `finishing`.
    """
    _, high, across, out = made.shape
    channels, side, workers = images.shape[3], seen(stride), len(memory)
    panels, _, wide = kernel.shape
    down, right = (high + STEP - 1) // STEP, (across + STEP - 1) // STEP
    flat, outputs = kernel.reshape(-1), made.reshape(-1)
    line = side * channels
    for worker in prange(workers):
        room = memory[worker]
        pixels = room[: side * line].reshape(side, line)
        begin = LANES * ((side * line + LANES - 1) // LANES)
        for t in range(len(places) * worker // workers, len(places) * (worker + 1) // workers):
            image, tile = divmod(places[t], down * right)
            top, left = tile // right * STEP, tile % right * STEP
            read_pixels(images[image], top * stride - before[0], left * stride - before[1], mean, std, pixels)
            for k in range(panels):
                for i in range(0, STEP, LINES):
                    pixel_panel(  # type: ignore[call-arg]
                        wide // LANES, room, i * stride * line, stride * line, stride * channels, SIDE, SIDE * channels,
                        line, flat, k * SIDE * SIDE * channels * wide, room, begin + i * STEP * LANES, STEP * STEP * LANES,
                        LANES,
                    )  # fmt: skip
                for vector in range(wide // LANES):
                    finish(  # type: ignore[call-arg]
                        finishing, room[begin + vector * STEP * STEP * LANES :], LANES, STEP * LANES, outputs, active, active,
                        active, norm, ((image * high + top) * across + left) * out, min(STEP, high - top),
                        min(STEP, across - left), across, out, k * wide + vector * LANES,
                    )  # fmt: skip


@njit(**OPTIONS)
def lead_back(gradient, stride, before, kernel, std, images, memory):  # type: ignore[no-untyped-def]
    """Put the gradient of the images before normalisation into `images` (N, H, W, C), given the map's (N, h, w, K).

    `kernel` (M / width, K, width) are the taps of each output, line by line, M numbers with zeros after the 9 C; `std` is
    that of all pixels in a line. Each pixel of the map adds its share to a sheet with borders. `memory` is (threads,
    `sheet_memory`).
    """
    count, high, across, out = gradient.shape
    _, height, width, channels = images.shape
    panels, _, wide = kernel.shape
    down, right = (high + STEP - 1) // STEP, (across + STEP - 1) // STEP
    flat, maps, taps = kernel.reshape(-1), gradient.reshape(-1), panels * wide
    breadth, run = (right * STEP * stride + SIDE) * channels, SIDE * channels
    workers = len(memory)
    for worker in prange(workers):
        room = memory[worker]
        shares, square = room[: STEP * STEP * taps], room[STEP * STEP * taps : STEP * STEP * (taps + out)]
        sheet = room[STEP * STEP * (taps + out) :][: (down * STEP * stride + SIDE) * breadth].reshape(-1, breadth)
        for image in range(worker, count, workers):
            sheet[:] = 0
            for tile in range(down * right):
                top, left = tile // right * STEP, tile % right * STEP
                whole = top + STEP <= high and left + STEP <= across
                if not whole:
                    square[:] = 0
                    for i in range(min(STEP, high - top)):
                        for j in range(min(STEP, across - left)):
                            for c in range(out):
                                square[(i * STEP + j) * out + c] = gradient[image, top + i, left + j, c]
                at, line = (((image * high + top) * across + left) * out, across * out) if whole else (0, STEP * out)
                for k in range(panels):
                    for i in range(0, STEP, LINES):
                        pixel_panel(  # type: ignore[call-arg]
                            wide // LANES, maps if whole else square, at + i * line, line, out, 1, out, 0, flat,
                            k * out * wide, shares, i * STEP * taps + k * wide, LANES, taps,
                        )  # fmt: skip
                for i in range(STEP):
                    for j in range(STEP):
                        for row in range(SIDE):
                            share = shares[(i * STEP + j) * taps + row * run :]
                            to = sheet[(top + i) * stride + row, (left + j) * stride * channels :]
                            for q in range(run):
                                to[q] += share[q]
            for i in range(height):
                for q in range(width * channels):
                    images[image, i, q // channels, q % channels] = (
                        sheet[i + before[0], q + before[1] * channels] / std[q]
                    )


@register_jitable
def working_memory(stride, channels, wide):  # type: ignore[no-untyped-def]
    """Return how many numbers a thread needs for `convolve`: the pixels that a tile sees, and its outputs of one panel."""
    pixels = seen(stride) ** 2 * channels
    return LANES * ((pixels + LANES - 1) // LANES) + STEP * STEP * wide


@register_jitable
def sheet_memory(stride, channels, taps, out, high, across):  # type: ignore[no-untyped-def]
    """Return how many numbers a thread needs for `lead_back`: shares of a tile, the tile, and the sheet of an image."""
    down, right = (high + STEP - 1) // STEP, (across + STEP - 1) // STEP
    sheet = (down * STEP * stride + SIDE) * (right * STEP * stride + SIDE) * channels
    return STEP * STEP * (taps + out) + sheet
