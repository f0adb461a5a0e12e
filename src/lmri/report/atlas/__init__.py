"""The atlas: every map of a study on one page that can be searched, sorted and thresholded."""
