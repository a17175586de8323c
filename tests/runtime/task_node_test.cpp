// SPDX-License-Identifier: BSL-1.0
#include <carom/detail/task_node.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <thread>

namespace carom::detail {
namespace {

const task_type any_type{nullptr, "int", false};

/// A continuation that drops the only handle, as a coroutine's frame does, may run between the
/// push and the end of `on_settled`: AddressSanitizer sees what is read after that.
TEST(TaskNode, AContinuationMayDropTheOnlyHandle) {
  constexpr int rounds = 20'000;
  std::atomic<task_node*> given{nullptr};
  std::atomic<int> called{0};
  std::thread loop([&] {
    for (int i = 0; i < rounds; ++i) {
      task_node* node = nullptr;
      while ((node = given.exchange(nullptr, std::memory_order_acq_rel)) == nullptr)
        std::this_thread::yield();
      const task_ref pools(node);
      if (node->settle(outcome_kind::value)) node->run_continuations();
    }
  });
  for (int i = 0; i < rounds; ++i) {
    auto* node = new task_node(any_type, nullptr);
    auto* handle = new task_ref(node);
    node->retain();  // the pool's
    given.store(node, std::memory_order_release);
    (*handle)->on_settled([&called, handle] {
      delete handle;
      called.fetch_add(1, std::memory_order_release);
    });
    // Each is called once, whoever was first.
    while (called.load(std::memory_order_acquire) != i + 1) std::this_thread::yield();
  }
  loop.join();
  EXPECT_EQ(called.load(), rounds);
}

}  // namespace
}  // namespace carom::detail
