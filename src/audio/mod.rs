//! Speech: log-mel spectrograms.
