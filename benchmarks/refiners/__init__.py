"""segspn's mask refinement beside the refiners that a user would otherwise pick."""
