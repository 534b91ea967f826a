"""What objectives need to know of model and data, estimated once; one file per kind."""
