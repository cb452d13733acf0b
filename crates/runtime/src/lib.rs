//! Load, link, run, suspend, park and resume guests under a policy.
