// SPDX-License-Identifier: BSL-1.0
// File descriptors travel: as arguments, as results, in containers, to initializers.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <carom/carom.hpp>
#include <climits>
#include <filesystem>
#include <ranges>
#include <string>
#include <vector>

#include "tests/pool/tasks.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using carom::file_descriptor;

struct pipe_ends {
  file_descriptor read, write;
  pipe_ends() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
    read.reset(ends[0]);
    write.reset(ends[1]);
  }
};

std::string read_all(const file_descriptor& from) {
  std::string text;
  char buffer[256];
  for (ssize_t got; (got = ::read(from.get(), buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(got));
  return text;
}

bool say(file_descriptor to, std::string text) {
  return ::write(to.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

file_descriptor make_file(std::string text) {
  file_descriptor made(::memfd_create("made", MFD_CLOEXEC));
  if (::write(made.get(), text.data(), text.size()) < 0) throw std::runtime_error("write");
  ::lseek(made.get(), 0, SEEK_SET);
  return made;
}

std::vector<file_descriptor> make_files(int count) {
  std::vector<file_descriptor> made;
  for (int i = 0; i < count; ++i) made.push_back(make_file(std::to_string(i)));
  return made;
}

std::uint64_t inode_of(const file_descriptor& file) {
  struct stat status {};
  ::fstat(file.get(), &status);
  return status.st_ino;
}

std::vector<std::uint64_t> inodes(std::vector<file_descriptor> files) {
  std::vector<std::uint64_t> found;
  for (const auto& one : files) found.push_back(inode_of(one));
  return found;
}

std::size_t open_descriptors() {
  return static_cast<std::size_t>(std::distance(
      std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator{}));
}

file_descriptor kept;
void keep(file_descriptor given) { kept = std::move(given); }
std::uint64_t inode_of_kept() { return inode_of(kept); }

std::uint64_t die_first(file_descriptor file, unsigned slot) {
  if (tasks::board::add(slot) == 1) ::kill(::getpid(), SIGKILL);
  return inode_of(file);
}

file_descriptor pass_on(file_descriptor file) { return file; }

TEST_F(Parity, Pool_descriptor_is_an_argument) {
  carom::pool pool{{.processes = 1}};
  pipe_ends pipe;
  EXPECT_TRUE(pool.apply(say, std::move(pipe.write), "from the worker"));
  pipe.write.reset();  // a duplicate has travelled
  EXPECT_EQ(read_all(pipe.read), "from the worker") << "no other copy keeps the pipe open";
}

TEST_F(Parity, Pool_descriptor_is_a_result) {
  carom::pool pool{{.processes = 1}};
  auto result = pool.apply_async(make_file, "made there");
  const file_descriptor first = result.get();
  EXPECT_EQ(read_all(first), "made there");
  const file_descriptor second = result.get();
  EXPECT_NE(first.get(), second.get()) << "each get() gives a descriptor of the caller's own";
  EXPECT_TRUE(::fcntl(second.get(), F_GETFD) & FD_CLOEXEC);
}

TEST_F(Parity, Pool_no_descriptor_travels_too) {
  carom::pool pool{{.processes = 1}};
  EXPECT_FALSE(pool.apply(pass_on, file_descriptor()));
}

TEST_F(Parity, Pool_descriptors_in_containers) {
  carom::pool pool{{.processes = 1}};
  auto files = make_files(100);  // more than one message takes
  std::vector<std::uint64_t> expected;
  for (const auto& one : files) expected.push_back(inode_of(one));
  EXPECT_EQ(pool.apply(inodes, std::move(files)), expected);
  const auto made = pool.apply(make_files, 100);
  ASSERT_EQ(made.size(), 100u);
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(read_all(made[static_cast<std::size_t>(i)]), std::to_string(i));
}

TEST_F(Parity, Pool_descriptors_in_a_map) {
  carom::pool pool{{.processes = 2}};
  const auto files = make_files(60);
  const auto duplicates = files | std::views::transform([](const auto& one) {
                            return file_descriptor::duplicate(one.get());
                          });
  const auto back = pool.map(pass_on, duplicates);
  ASSERT_EQ(back.size(), 60u);
  for (std::size_t i = 0; i < 60; ++i) EXPECT_EQ(inode_of(back[i]), inode_of(files[i]));
  std::size_t seen = 0;
  for (const auto& each : pool.imap(pass_on, duplicates, 7))
    EXPECT_EQ(inode_of(each), inode_of(files[seen++]));
  EXPECT_EQ(seen, 60u);
}

TEST_F(Parity, Pool_descriptors_in_a_map_with_item_limits) {
  carom::pool pool{{.processes = 1, .time_limit = std::chrono::minutes(1)}};
  const auto made = pool.map(make_file, std::vector<std::string>{"a", "b", "c"}, 3);
  ASSERT_EQ(made.size(), 3u);
  EXPECT_EQ(read_all(made[2]), "c");
}

TEST_F(Parity, Pool_descriptor_of_an_initializer) {
  const file_descriptor file = make_file("shared");
  carom::pool pool{
      {.processes = 2, .initializer = carom::call(keep, file_descriptor::duplicate(file.get()))}};
  EXPECT_EQ(pool.apply(inode_of_kept), inode_of(file));
  pool.restart();
  EXPECT_EQ(pool.apply(inode_of_kept), inode_of(file)) << "later workers get theirs";
}

TEST_F(Parity, Pool_descriptor_goes_to_the_next_worker_when_one_dies) {
  carom::pool pool{{.processes = 1, .retry = {.attempts = 2}}};
  const file_descriptor file = make_file("again");
  EXPECT_EQ(pool.apply(die_first, file_descriptor::duplicate(file.get()), 0u), inode_of(file));
}

TEST_F(Parity, Pool_descriptors_of_tasks_that_end_elsewhere_do_not_stay) {
  carom::pool pool{{.processes = 1}};
  const std::size_t before = pool.apply(open_descriptors);
  const file_descriptor file = make_file("x");
  auto holding = pool.apply_async(tasks::hold, 0u, 1u);
  tasks::board::wait(0, 1);
  std::vector<carom::async_result<std::uint64_t>> cancelled;
  for (int i = 0; i < 50; ++i)
    cancelled.push_back(pool.apply_async(die_first, file_descriptor::duplicate(file.get()), 5u));
  for (auto& one : cancelled) EXPECT_TRUE(one.cancel());
  tasks::board::add(1);
  holding.get();
  EXPECT_EQ(pool.apply(open_descriptors), before);
}

TEST_F(Parity, Pool_descriptor_that_is_none_is_refused_at_the_call) {
  carom::pool pool{{.processes = 1}};
  // Not one that was closed just now: the loop may have got its number, and the handle closes it.
  constexpr int none = INT_MAX;
  EXPECT_THROW(pool.apply_async(pass_on, file_descriptor(none)), carom::encoding_error);
  EXPECT_TRUE(pool.apply(pass_on, make_file("x")));
}

}  // namespace
