// SPDX-License-Identifier: BSL-1.0
// Rows `apply`, `apply_async`, `task_options` and "what can be run in another process" of api.md.
#include <gtest/gtest.h>

#include <array>
#include <carom/carom.hpp>
#include <cstdlib>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;

std::size_t length(const std::string& text) { return text.size(); }
std::string_view::size_type length_of_view(std::string_view text) { return text.size(); }
std::string joined(std::string a, const std::string& b, std::string&& c) { return a + b + c; }
int doubled(std::unique_ptr<int> number) { return 2 * *number; }
std::unique_ptr<int> boxed(int number) { return std::make_unique<int>(number); }
int quietly(int x) noexcept { return -x; }
double half(double x) { return x / 2; }
long sum(std::span<const int> numbers) {
  long total = 0;
  for (int n : numbers) total += n;
  return total;
}

/// A function object whose state travels with it.
struct scaled {
  int factor = 1;
  int operator()(int x) const { return factor * x; }
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& factor;
  }
};

struct generic_sum {
  template <class A, class B>
  auto operator()(A a, B b) const {
    return a + b;
  }
};

}  // namespace

TEST_F(Parity, Pool_apply) {
  carom::pool pool{{.processes = 2}};
  EXPECT_EQ(pool.apply(tasks::square, 7), 49);
  EXPECT_EQ(pool.apply(&tasks::square, -7), 49);
  EXPECT_EQ(pool.apply(quietly, 3), -3);
  EXPECT_EQ(pool.apply([] { return 5; }), 5);
  EXPECT_EQ(pool.apply([](int a, int b) { return a - b; }, 9, 4), 5);
  static_assert(std::is_void_v<decltype(pool.apply(tasks::nothing))>);
  pool.apply(tasks::nothing);
  EXPECT_NE(pool.apply(tasks::worker), ::getpid());
}

TEST_F(Parity, Pool_apply_lengths_have_64_bits) {
  // 3 GiB, which a 32-bit length cannot say, with CAROM_FULL: host, segment and worker have them.
  const std::size_t size =
      std::getenv("CAROM_FULL") ? (std::size_t{3} << 30) + 1 : (std::size_t{24} << 20) + 1;
  carom::pool pool{{.processes = 1}};
  std::string text(size, 'x');
  text.back() = 'y';
  EXPECT_EQ(pool.apply(length, text), size);
  EXPECT_EQ(pool.apply(
                +[](const std::string& all) { return all.substr(all.size() - 2); }, text),
            "xy");
  const std::string back = pool.apply(
      +[](std::string all) { return all; }, std::move(text));
  EXPECT_EQ(back.size(), size);
  EXPECT_EQ(back.back(), 'y');
}

TEST_F(Parity, Pool_apply_default_options) {
  carom::pool pool;
  EXPECT_EQ(pool.processes(), carom::cpu_count());
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
}

TEST_F(Parity, Pool_apply_async) {
  carom::pool pool{{.processes = 2}};
  std::vector<carom::async_result<int>> results;
  for (int i = 0; i < 1000; ++i) results.push_back(pool.apply_async(tasks::square, i));
  for (int i = 999; i >= 0; --i) EXPECT_EQ(results[static_cast<std::size_t>(i)].get(), i * i);
}

TEST_F(Parity, Pool_apply_converts_arguments_to_the_parameter_types) {
  carom::pool pool{{.processes = 1}};
  EXPECT_EQ(pool.apply(length, "abc"), 3U);
  EXPECT_EQ(pool.apply(length_of_view, "abcd"), 4U);
  const std::string text = "text";
  EXPECT_EQ(pool.apply(length_of_view, std::string_view(text).substr(1)), 3U);
  EXPECT_EQ(pool.apply(half, 3), 1.5);
  EXPECT_EQ(pool.apply(joined, "a", text, std::string("z")), "atextz");
  EXPECT_EQ(text, "text");
  EXPECT_EQ(pool.apply(sum, std::vector{1, 2, 3}), 6);
  const int numbers[] = {1, 2, 3, 4};
  EXPECT_EQ(pool.apply(sum, numbers), 10);
  EXPECT_EQ(pool.apply(sum, std::span(numbers).first(2)), 3);
  EXPECT_EQ(pool.apply(sum, std::array<short, 2>{20, 22}), 42);
}

TEST_F(Parity, Pool_apply_generic_lambda) {
  carom::pool pool{{.processes = 1}};
  const auto add = [](auto a, auto b) { return a + b; };
  EXPECT_EQ(pool.apply(add, 2, 3), 5);
  EXPECT_EQ(pool.apply(add, std::string("ab"), "cd"), "abcd");
  EXPECT_EQ(pool.apply(generic_sum{}, 1.5, 2), 3.5);
}

TEST_F(Parity, Pool_apply_function_object_with_state) {
  carom::pool pool{{.processes = 1}};
  EXPECT_EQ(pool.apply(scaled{6}, 7), 42);
  const scaled three{3};
  EXPECT_EQ(pool.apply_async(three, 5).get(), 15);
  EXPECT_EQ(pool.map(three, std::vector{1, 2, 3}), (std::vector{3, 6, 9}));
}

TEST_F(Parity, Pool_apply_move_only_arguments_and_results) {
  carom::pool pool{{.processes = 1}};
  EXPECT_EQ(pool.apply(doubled, std::make_unique<int>(21)), 42);
  auto mine = std::make_unique<int>(4);
  EXPECT_EQ(pool.apply(doubled, std::move(mine)), 8);
  EXPECT_EQ(*pool.apply(boxed, 17), 17);
}

TEST_F(Parity, Pool_apply_task_options) {
  carom::pool pool{{.processes = 1}};
  std::promise<pid_t> started;
  const auto result = pool.apply_async(
      {.on_start = [&](pid_t pid) { started.set_value(pid); }, .correlation_id = "order 66"},
      tasks::hold, 0, 1);
  auto future = started.get_future();
  ASSERT_EQ(future.wait_for(std::chrono::seconds(30)), std::future_status::ready)
      << "on_start comes while the task runs";
  EXPECT_FALSE(result.ready());
  board::set(1, 1);
  EXPECT_EQ(result.get(), future.get());
  EXPECT_EQ(pool.apply(carom::task_options{}, tasks::square, 4), 16);
}

TEST_F(Parity, Pool_apply_on_start_comes_before_the_result) {
  carom::pool pool{{.processes = 2}};
  std::atomic<int> started = 0;
  for (int i = 0; i < 200; ++i) {
    const int before = started;
    pool.apply({.on_start = [&](pid_t) { ++started; }}, tasks::nothing);
    EXPECT_EQ(started, before + 1);
  }
}

TEST_F(Parity, Pool_apply_correlation_id_is_in_errors) {
  carom::pool pool{{.processes = 1}};
  try {
    pool.apply({.correlation_id = "order 66"}, tasks::die_of, SIGKILL);
    FAIL() << "nothing thrown";
  } catch (const carom::worker_lost& e) {
    EXPECT_NE(std::string(e.what()).find("order 66"), std::string::npos) << e.what();
  }
}

TEST_F(Parity, Pool_apply_throwing_on_start_changes_nothing) {
  carom::set_log(std::make_shared<spdlog::logger>("silent"));
  {
    carom::pool pool{{.processes = 1}};
    for (int i = 0; i < 3; ++i)
      EXPECT_EQ(
          pool.apply({.on_start = [](pid_t) { throw std::runtime_error("no"); }}, tasks::square, i),
          i * i);
  }
  carom::set_log(nullptr);
}

TEST_F(Parity, Pool_this_task_and_this_worker) {
  EXPECT_EQ(carom::this_task::id(), 0U);
  EXPECT_EQ(carom::this_worker::index(), -1);
  EXPECT_EQ(carom::this_worker::pid(), 0);
  carom::pool pool{{.processes = 3}};
  for (int i = 0; i < 20; ++i) {
    const auto result = pool.apply_async([] { return carom::this_task::id(); });
    EXPECT_EQ(result.get(), result.id());
  }
  const auto [index, pid, real_pid] = pool.apply([] {
    return std::tuple(carom::this_worker::index(), carom::this_worker::pid(), ::getpid());
  });
  EXPECT_GE(index, 0);
  EXPECT_LT(index, 3);
  EXPECT_EQ(pid, real_pid);
  EXPECT_TRUE(pool.apply([] { return carom::this_worker::log() != nullptr; }));
}

TEST_F(Parity, Pool_all_workers_work_at_once) {
  carom::pool pool{{.processes = 4}};
  std::vector<carom::async_result<pid_t>> held;
  for (int i = 0; i < 4; ++i) held.push_back(pool.apply_async(tasks::hold, begun, release));
  EXPECT_TRUE(board::wait(begun, 4));
  board::set(release, 1);
  std::set<pid_t> pids;
  for (const auto& each : held) pids.insert(each.get());
  EXPECT_EQ(pids.size(), 4U);
}

TEST_F(Parity, Call_is_a_value) {
  const carom::packed_call call = carom::call(tasks::square, 5);
  EXPECT_TRUE(call.valid());
  EXPECT_FALSE(carom::packed_call{}.valid());
  const carom::packed_call copy = call;
  EXPECT_EQ(copy.name(), call.name());
  EXPECT_FALSE(call.name().empty());
  std::ostringstream printed;
  printed << call;
  EXPECT_NE(printed.str().find(call.name()), std::string::npos) << printed.str();
}

TEST_F(Parity, Register_task_names_a_task) {
  carom::register_task("tests.quietly", quietly);
  EXPECT_EQ(carom::call(quietly, 1).name(), "tests.quietly");
  carom::register_task("tests.die", tasks::die_of);
  carom::pool pool{{.processes = 1}};
  try {
    pool.apply(tasks::die_of, SIGKILL);
    FAIL() << "nothing thrown";
  } catch (const carom::worker_lost& e) {
    EXPECT_EQ(e.task_name(), "tests.die");
  }
}
