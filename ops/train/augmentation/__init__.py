"""Random changes of whole batches of training images and their targets, on the device of the images."""
