// SPDX-License-Identifier: BSL-1.0
#include "serialization/demangle.hpp"

#include <cxxabi.h>

#include <cstdlib>
#include <memory>

namespace carom::serialization {

std::string demangle(const char* mangled) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> name{
      abi::__cxa_demangle(mangled, nullptr, nullptr, &status), std::free};
  return status == 0 && name ? name.get() : mangled;
}

}  // namespace carom::serialization
