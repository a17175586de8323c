// SPDX-License-Identifier: BSL-1.0
#include "tests/support/leak_guard.hpp"

#include <unistd.h>

#include <ostream>
#include <thread>

#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/processes.hpp"

namespace carom::test {

holdings holdings::now() {
  const pid_t self = ::getpid();
  return {open_descriptors(self), threads_of(self), test::shared_mappings(self),
          own_children().size(), family_of(self).size()};
}

bool holdings::within(const holdings& before) const {
  return descriptors <= before.descriptors && threads <= before.threads &&
         shared_mappings <= before.shared_mappings && children <= before.children &&
         family <= before.family;
}

std::ostream& operator<<(std::ostream& out, const holdings& held) {
  return out << held.descriptors << " descriptors, " << held.threads << " threads, "
             << held.shared_mappings << " shared mappings, " << held.children << " children, "
             << held.family << " processes below";
}

void leak_guard::SetUp() {
  board::reset();
#ifdef __SANITIZE_THREAD__
  std::thread([] {}).join();  // with the first thread comes the sanitizer's own, which stays
#endif
  before_ = holdings::now();
}

void leak_guard::TearDown() {
  if (eventually([&] { return holdings::now().within(before_); })) return;
  ADD_FAILURE() << "left behind:\n  before " << before_ << "\n  after  " << holdings::now();
}

}  // namespace carom::test
