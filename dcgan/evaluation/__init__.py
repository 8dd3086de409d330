"""Compare samples with real images: FID, KID, precision, recall; encode images."""
