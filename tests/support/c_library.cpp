// SPDX-License-Identifier: BSL-1.0
#include "tests/support/c_library.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <utility>

namespace carom::test {

c_library::c_library(const std::string& source) {
  char folder[] = "/tmp/carom-test-XXXXXX";
  if (!::mkdtemp(folder)) throw std::runtime_error("mkdtemp");
  folder_ = folder;
  path_ = folder_ / "library.so";
  const std::string file = folder_ / "source.c";
  std::ofstream(file) << source << "\n";
  const std::string command = "cc -shared -fPIC -Wl,--build-id -o " + path_ + " " + file;
  if (std::system(command.c_str()) != 0) throw std::runtime_error("no C compiler");
}

c_library::~c_library() {
  close();
  std::filesystem::remove_all(folder_);
}

void c_library::open() {
  handle_ = ::dlopen(path_.c_str(), RTLD_NOW);
  if (!handle_) throw std::runtime_error(::dlerror());
}

void c_library::close() {
  if (handle_) ::dlclose(std::exchange(handle_, nullptr));
}

void* c_library::symbol(const char* name) const {
  void* const found = ::dlsym(handle_, name);
  if (!found) throw std::runtime_error(std::string("no symbol ") + name);
  return found;
}

}  // namespace carom::test
