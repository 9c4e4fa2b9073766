"""Protocol buffers of package `relaxon.v1` and the stubs generated from them."""
