// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace carom::test {

/// A type with fields of its own, for values and arrays of it.
struct point {
  int x = 1;
  double y = 0;
  bool operator==(const point&) const = default;
};

}  // namespace carom::test
