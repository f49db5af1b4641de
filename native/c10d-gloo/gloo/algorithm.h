// Stands in for Gloo's header of this name. LibTorch contains Gloo without its headers, and c10d's ProcessGroupGloo.hpp
// includes five of them. Only pointers to Gloo's types occur in the code that includes it, so declarations are enough.
#pragma once
