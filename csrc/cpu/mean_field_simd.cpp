namespace deeplab_native {}
