// SPDX-License-Identifier: BSL-1.0
// Failures.19: a worker that has no free descriptor, or whose descriptors the kernel does not take:
// the task that needs them ends in an error, and neither it nor the worker hangs or dies.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <boost/serialization/split_member.hpp>
#include <carom/carom.hpp>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "tests/pool/common.hpp"
#include "tests/pool/tasks.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

std::vector<int> held_in_worker;

void take_all_descriptors() {
  rlimit most{};
  ::getrlimit(RLIMIT_NOFILE, &most);
  most.rlim_cur = 64;
  ::setrlimit(RLIMIT_NOFILE, &most);
  for (int fd; (fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) held_in_worker.push_back(fd);
}
void give_them_back() {
  for (const int fd : held_in_worker) ::close(fd);
  held_in_worker.clear();
}
bool is_open(const carom::file_descriptor& one) { return ::fcntl(one.get(), F_GETFD) >= 0; }
std::size_t size_of(const std::string& text) { return text.size(); }
std::string letters_of(std::size_t size) { return std::string(size, 'x'); }

carom::file_descriptor null_device() {
  return carom::file_descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

/// A result whose descriptor is none any more when it is to be sent.
struct closed_behind_its_back {
  carom::file_descriptor one{};
  std::vector<carom::file_descriptor> before{};

  template <class Archive>
  void save(Archive& archive, unsigned) const {
    // The duplicate that travels gets the lowest number that is free.
    archive << before;
    const int next = ::fcntl(one.get(), F_DUPFD_CLOEXEC, 3);
    ::close(next);
    archive << one;
    ::close(next);
  }
  template <class Archive>
  void load(Archive& archive, unsigned) {
    archive >> before >> one;
  }
  BOOST_SERIALIZATION_SPLIT_MEMBER()
};
closed_behind_its_back closed_at(int i, int which) {
  return {i == which ? null_device() : carom::file_descriptor()};
}
closed_behind_its_back closed_at_2(int i) { return closed_at(i, 2); }

TEST_F(Failures, 19_a_worker_without_descriptors_fails_the_tasks_that_need_one_and_no_other) {
  carom::pool pool{{.processes = 1}};
  for (const std::size_t size : {300'000, 700'000}) {
    // Larger than before: memory that the worker has from the first round serves it without one.
    const std::string large(size, 'a');
    pool.apply(take_all_descriptors);
    EXPECT_THROW(pool.apply(is_open, null_device()), carom::error);
    EXPECT_EQ(pool.apply(tasks::square, 3), 9);
    EXPECT_THROW(pool.apply(size_of, large), carom::encoding_error);
    EXPECT_EQ(pool.apply(tasks::square, 4), 16);
    EXPECT_THROW(pool.apply(letters_of, large.size()), carom::encoding_error);
    EXPECT_EQ(pool.apply(tasks::square, 5), 25);
    pool.apply(give_them_back);
    EXPECT_TRUE(pool.apply(is_open, null_device()));
    EXPECT_EQ(pool.apply(size_of, large), large.size());
    EXPECT_EQ(pool.apply(letters_of, large.size()).size(), large.size());
  }
  EXPECT_EQ(pool.metrics().died_workers, 0U);
}

TEST_F(Failures, 19_a_result_whose_descriptor_cannot_be_sent_is_the_tasks_own_error) {
  carom::pool pool{{.processes = 1}};
  EXPECT_THROW(pool.apply(closed_at, 1, 1), carom::encoding_error);
  EXPECT_TRUE(pool.apply(closed_at, 0, 1).one.get() < 0);
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);

  const std::vector items{0, 1, 2, 3, 4, 5};
  const auto all = pool.try_map(closed_at_2, items, 1);
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i].has_value(), i != 2) << i;
  EXPECT_THROW(pool.map(closed_at_2, items, 1), carom::encoding_error);
  // Several items in one message: those that go with it fail, and each of the chunk has an outcome.
  EXPECT_FALSE(pool.try_map(closed_at_2, items, 6)[2].has_value());
  EXPECT_THROW(pool.map(closed_at_2, items, 6), carom::encoding_error);
  EXPECT_EQ(pool.apply(tasks::square, 3), 9);
  EXPECT_EQ(pool.metrics().died_workers, 0U);
}

closed_behind_its_back many_closed_behind(int i) {
  // The last: no other duplicate gets its number.
  closed_behind_its_back result = closed_at(i, 5);
  for (int n = 0; n != 50; ++n) result.before.push_back(null_device());
  return result;
}

TEST_F(Failures, 19_descriptors_that_went_ahead_of_a_refused_one_do_not_stay) {
  carom::pool pool{{.processes = 1}};
  const std::vector items{0, 1, 2, 3, 4, 5};
  const auto all_ways = [&] {
    EXPECT_THROW(pool.map(many_closed_behind, items, 6), carom::encoding_error);
    EXPECT_THROW(pool.map(many_closed_behind, items, 1), carom::encoding_error);
    EXPECT_FALSE(pool.try_map(many_closed_behind, items, 6)[5].has_value());
    EXPECT_THROW(pool.map({.time_limit = std::chrono::hours(1)}, many_closed_behind, items, 6),
                 carom::encoding_error);
  };
  all_ways();
  const auto few = [] { return carom::test::holdings::now().descriptors < 100; };
  for (int i = 0; i != 3; ++i) all_ways();
  // What a map that has failed still had is dropped behind it.
  EXPECT_TRUE(carom::test::eventually(few));
  EXPECT_EQ(pool.metrics().died_workers, 0U);
}

}  // namespace
