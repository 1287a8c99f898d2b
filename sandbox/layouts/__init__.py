"""The layouts in which a person's own labelled images are read: one file a layout, `reading` chooses among them."""
