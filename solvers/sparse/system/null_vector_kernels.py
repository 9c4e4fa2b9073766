"""The kernel of `null_vectors`: sums over rows by which null vectors are recognised."""

from __future__ import annotations

import numpy as np

from relaxon.solvers.kernels.compiled import kernel

ONE = np.uint32(1)


@kernel(fastmath={"contract", "nsz"}, counted=False)
def image_sums(start, stop, bounds, label, indptr, indices, data, vectors, largest, sums, image):  # type: ignore[no-untyped-def]
    """Sum products of the images `A V` over rows, each row relative to the size of its terms.

    `sums[part, c, 0]` gets `Σ w wᵀ`, `w = (A V)_i / s_i`, `s_i = Σ_j |a_ij| largest_j`, over the rows of component `c`;
    `sums[part, c, 1]` gets `Σ v vᵀ` of the vectors' own rows. Rows with a negative label are skipped. `image` is
    scratch memory.
    """
    count = vectors.shape[1]
    for part in range(start, stop):
        for i in range(bounds[part], bounds[part + 1]):
            c = label[i]
            if c < 0:
                continue
            for k in range(count):
                image[k] = 0.0
            size = 0.0
            for e in range(indptr[i], indptr[i + ONE]):
                j, a = indices[e], data[e]
                size += abs(a) * largest[j]
                for k in range(count):
                    image[k] += a * vectors[j, k]
            factor = 1.0 / size if size > 0.0 else 0.0
            for k in range(count):
                for m in range(count):
                    sums[part, c, 0, k, m] += (factor * image[k]) * (factor * image[m])
                    sums[part, c, 1, k, m] += vectors[i, k] * vectors[i, m]
