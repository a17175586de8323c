// expect: carom: .*(rebuilt|construct|serialize)
// SPDX-License-Identifier: BSL-1.0
#include <carom/exception.hpp>
#include <stdexcept>
#include <string>

struct quota_exceeded : std::runtime_error {
#ifdef FIXED
  using std::runtime_error::runtime_error;
#else
  quota_exceeded(int used, int allowed)
      : std::runtime_error(std::to_string(used) + " of " + std::to_string(allowed)) {}
#endif
};
CAROM_EXCEPTION(quota_exceeded);
