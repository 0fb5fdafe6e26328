"""The judgement of an exported model: metrics by slice, thresholds, and skew between training and serving."""
