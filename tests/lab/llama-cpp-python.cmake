# llama-cpp-python insists on llama.cpp's library of common parts and installs it; its Python code loads none of it.
# A variable of this scope stands before the cached one that its CMakeLists.txt sets.
set(LLAMA_BUILD_COMMON OFF)
