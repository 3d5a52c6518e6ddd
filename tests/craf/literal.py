"""Slow, literal oracles: pixel by pixel, nothing shared with the code under test."""

from __future__ import annotations


def components(score, above):
    """8-connected sets of pixels with score > above, columns left to right, each top to bottom."""
    height, width = len(score), len(score[0])
    seen, found = set(), []
    for x in range(width):
        for y in range(height):
            if score[y][x] <= above or (y, x) in seen:
                continue
            seen.add((y, x))
            stack, pixels = [(y, x)], []
            while stack:
                r, c = stack.pop()
                pixels.append((r, c))
                for rr in (r - 1, r, r + 1):
                    for cc in (c - 1, c, c + 1):
                        inside = 0 <= rr < height and 0 <= cc < width
                        if inside and (rr, cc) not in seen and score[rr][cc] > above:
                            seen.add((rr, cc))
                            stack.append((rr, cc))
            # the scan meets the first pixel in column order first
            found.append({"first": (y, x), "pixels": set(pixels)})
    return found


def jaccard(a, b):
    return len(a & b) / len(a | b) if a | b else 1.0


def release_select(score, previous):
    """Step 1: a list of rows of 0..255 and the set of previous pixels; returns new rows."""
    score = [list(row) for row in score]
    regions = components(score, 30)
    if not regions:
        return score
    J = [jaccard(region["pixels"], previous) for region in regions]
    largest = max(len(region["pixels"]) for region in regions)
    looked_at = -1
    while True:
        if max(J) <= 0.01:
            return [[0] * len(row) for row in score]
        while True:
            looked_at += 1
            if looked_at == len(regions):
                looked_at = 0
            if J[looked_at] == max(J):
                break
        if len(regions[looked_at]["pixels"]) / largest > 0.2:
            for m, region in enumerate(regions):
                y, x = region["first"]
                if m != looked_at and score[y][x] != 255:
                    for y, x in region["pixels"]:
                        score[y][x] = 0
            return score
        for y, x in regions[looked_at]["pixels"]:
            score[y][x] = 255
        J[looked_at] = 0


def release_frame(scores, ids, previous, foreground):
    """Steps 1-3 on lists of rows; returns the filtered scores and the labels."""
    height, width = len(previous), len(previous[0])
    pixels = [(y, x) for y in range(height) for x in range(width)]
    P = {i: {(y, x) for y, x in pixels if previous[y][x] == i} for i in ids}
    filtered = [release_select(scores[n], P[i]) for n, i in enumerate(ids)]
    label = [[0] * width for _ in range(height)]
    for y, x in pixels:
        maximum = max(f[y][x] for f in filtered)
        if maximum >= 100 and foreground[y][x]:
            label[y][x] = next(i for n, i in enumerate(ids) if filtered[n][y][x] == maximum)
    for i in ids:
        new = sum(label[y][x] == i for y, x in pixels)
        if len(P[i]) >= 100 and new / len(P[i]) < 0.3:
            for n in range(len(ids)):
                zeroed = [
                    [0 if label[y][x] != 0 else scores[n][y][x] for x in range(width)]
                    for y in range(height)
                ]
                for region in components(zeroed, 0):
                    if jaccard(region["pixels"], P[i]) > 0.2:
                        for y, x in region["pixels"]:
                            label[y][x] = i
    for y, x in pixels:
        if not foreground[y][x]:
            label[y][x] = 0
    return filtered, label
