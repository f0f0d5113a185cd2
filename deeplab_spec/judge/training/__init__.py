"""The training level: initial weights, running statistics, gradients, one SGD step, dropout."""
