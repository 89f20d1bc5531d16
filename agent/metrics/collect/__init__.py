"""What the operating system tells about itself: one file per family, pure parsing of /proc."""
