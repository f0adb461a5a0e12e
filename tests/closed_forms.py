"""Pairs of variables whose mutual information is known, in nats."""

import math

import numpy as np
from scipy.special import digamma, gammaln


def gaussian_pair(n, d, rho, seed=0):
    """Dimension i of x and of y correlate by rho; all others are independent."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * rng.normal(size=(n, d))


def gaussian_information(d, rho):
    """Closed form for :func:`gaussian_pair`."""
    return -0.5 * d * math.log(1 - rho**2)


def twisted(x, speed):
    """Turn the plane of the first two dimensions by an angle that grows with ``|x|²``."""
    angle = speed * (x**2).sum(axis=1)
    turned = x.copy()
    turned[:, 0] = np.cos(angle) * x[:, 0] - np.sin(angle) * x[:, 1]
    turned[:, 1] = np.sin(angle) * x[:, 0] + np.cos(angle) * x[:, 1]
    return turned


def student_pair(n, d, nu, seed=0):
    """Student variables with the identity as dispersion: dependent through their scale alone."""
    rng = np.random.default_rng(seed)
    scale = np.sqrt(nu / rng.chisquare(nu, size=(n, 1)))
    return scale * rng.normal(size=(n, d)), scale * rng.normal(size=(n, d))


def student_information(d, nu):
    """``h(d) + h(d) - h(2d)``; the dispersion is the identity."""

    def entropy(k):
        constant = -gammaln((nu + k) / 2) + gammaln(nu / 2) + k / 2 * math.log(nu * math.pi)
        return constant + (nu + k) / 2 * (digamma((nu + k) / 2) - digamma(nu / 2))

    return float(2 * entropy(d) - entropy(2 * d))


def uniform_pair(n, width, seed=0):
    """X is uniform on (0, 1), Y is X and uniform noise on (-width, width)."""
    rng = np.random.default_rng(seed)
    x = rng.random(n)
    return x, x + rng.uniform(-width, width, n)


def uniform_information(width):
    """Closed form for :func:`uniform_pair`."""
    return width - math.log(2 * width) if width <= 0.5 else 1 / (4 * width)


def stepped_pair(n, m, seed=0):
    """X is one of m integers, Y uniform on (X, X + 2)."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, m, n)
    return x, x + 2 * rng.random(n)


def stepped_information(m):
    """Closed form for :func:`stepped_pair`."""
    return math.log(m) - (m - 1) / m * math.log(2)


def flipped_information(p):
    """Binary symmetric channel with error p."""
    return math.log(2) + p * math.log(p) + (1 - p) * math.log(1 - p)


def noisy_information(d, variance):
    """``X ~ N(0, I_d)`` and X with Gaussian noise."""
    return 0.5 * d * math.log(1 + 1 / variance)


def wide_layer(n, width, seed=0):
    """A layer of ReLU units on 20 Gaussian inputs, and labels that have nothing to do with it."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 20))
    t = np.maximum(x @ rng.normal(size=(20, width)) / math.sqrt(20), 0)
    return x, t, rng.integers(0, 10, n)
