"""Common corruptions at five severities, in the style of ImageNet-C and CIFAR-10-C (Hendrycks and Dietterich 2019)."""
