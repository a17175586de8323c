// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <iosfwd>

namespace carom::test {

/// What a process holds that pools must give back.
struct holdings {
  std::size_t descriptors = 0;
  std::size_t threads = 0;
  std::size_t shared_mappings = 0;
  std::size_t children = 0;  ///< zombies too
  std::size_t family = 0;    ///< processes forked below this one, fork server included

  static holdings now();
  /// Nothing is more than it was.
  bool within(const holdings& before) const;
  friend std::ostream& operator<<(std::ostream& out, const holdings& held);
};

/// Clears the board before each test; after it, waits until the process holds no more than before
/// and fails the test if that does not come.
class leak_guard : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

 private:
  holdings before_;
};

}  // namespace carom::test

/// The suites: a test is named after the row of api.md or of failures.md that it checks.
using Parity = carom::test::leak_guard;
using Failures = carom::test::leak_guard;
using Chaos = carom::test::leak_guard;
