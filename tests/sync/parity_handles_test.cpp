// SPDX-License-Identifier: BSL-1.0
// Handles of primitives travel, and what arrives is looked at before it is believed.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <carom/detail/codec.hpp>
#include <carom/errors.hpp>
#include <carom/sync.hpp>
#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tests/support/board.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

namespace board = carom::test::board;
namespace detail = carom::detail;
using carom::test::forked;
using namespace std::chrono_literals;

template <class T>
T travelled(const T& value) {
  detail::blob packed;
  detail::encode(packed, value);
  const detail::descriptor_scope in_reach(packed.find_descriptors());
  return std::get<0>(detail::decode<T>(packed.bytes()));
}

/// Whether another process can have the lock now.
template <class Lock>
bool others_can_lock(Lock lock) {
  return forked([&] {
           if (!lock.try_lock()) return false;
           lock.unlock();
           return true;
         })
      .succeeded();
}

/// The bytes of one handle, read as another.
template <class To, class From>
To misread(const From& value) {
  detail::blob packed;
  detail::encode(packed, value);
  const detail::descriptor_scope in_reach(packed.find_descriptors());
  return std::get<0>(detail::decode<To>(packed.bytes()));
}

TEST_F(Parity, Sync_handles_that_have_travelled_name_the_same_primitive) {
  const carom::lock lock;
  carom::lock lock_there = travelled(lock);
  lock_there.lock();
  EXPECT_FALSE(carom::lock(lock).try_lock());
  carom::lock(lock).unlock();  // it is the same lock, and this the same thread
  EXPECT_THROW(lock_there.unlock(), carom::process_error);

  const carom::rlock rlock;
  carom::rlock rlock_there = travelled(rlock);
  rlock_there.lock();
  carom::rlock(rlock).lock();
  rlock_there.unlock();
  carom::rlock(rlock).unlock();
  EXPECT_THROW(rlock_there.unlock(), carom::process_error);

  const carom::semaphore semaphore(3);
  travelled(semaphore).release();
  EXPECT_EQ(semaphore.get_value(), 4);

  const carom::bounded_semaphore bounded(3);
  EXPECT_THROW(travelled(bounded).release(), carom::process_error);
  EXPECT_THROW(travelled<carom::semaphore>(carom::semaphore(bounded)).release(),
               carom::process_error);

  const carom::event event;
  travelled(event).set();
  EXPECT_TRUE(event.is_set());

  const carom::barrier barrier(2, {}, 10ms);
  carom::barrier barrier_there = travelled(barrier);
  EXPECT_EQ(barrier_there.parties(), 2);
  EXPECT_THROW(barrier_there.wait(), carom::broken_barrier) << "its time has come along";
  EXPECT_TRUE(barrier.broken());
}

/// A handle that came back is no other lock: to drop it while another one is there lets go of
/// nothing.
template <class Lock>
void a_dropped_handle_lets_go_of_nothing() {
  Lock kept;
  {
    Lock other = travelled(kept);
    other.lock();
  }
  EXPECT_FALSE(others_can_lock(kept));
  kept.unlock();
  EXPECT_TRUE(others_can_lock(kept));
  EXPECT_TRUE(kept.try_lock());
  kept.unlock();

  // Locked by the one, unlocked and locked again by the other.
  {
    Lock other = travelled(kept);
    other.lock();
    kept.unlock();
    kept.lock();
  }
  EXPECT_FALSE(others_can_lock(kept));
  EXPECT_FALSE(kept.abandoned());
  kept.unlock();
}

TEST_F(Parity, Sync_a_dropped_handle_lets_go_of_nothing_while_others_are_there) {
  a_dropped_handle_lets_go_of_nothing<carom::lock>();
  a_dropped_handle_lets_go_of_nothing<carom::rlock>();
}

/// With the last handle of a process goes what it holds, however many there were.
TEST_F(Parity, Sync_the_last_of_many_handles_lets_go_of_a_lock) {
  detail::blob packed;
  {
    carom::lock first;
    detail::encode(packed, first);
    std::vector<carom::lock> more;
    for (int i = 0; i < 200; ++i) more.push_back(travelled(first));
    more[100].lock();
  }
  const detail::descriptor_scope in_reach(packed.find_descriptors());
  auto again = std::get<0>(detail::decode<carom::lock>(packed.bytes()));
  EXPECT_TRUE(again.acquire(0ns).abandoned());
  again.unlock();
}

/// More than are ever swept out at a time come and go.
TEST_F(Parity, Sync_many_locks_come_and_go) {
  std::vector<carom::lock> kept;
  for (int i = 0; i < 1000; ++i) {
    carom::lock passing;
    travelled(passing).lock();
    if (i % 250 == 0) {
      EXPECT_FALSE(others_can_lock(passing));
    }
    passing.unlock();
    if (i % 10 == 0) kept.push_back(travelled(passing));
  }
  for (carom::lock& one : kept) {
    one.lock();
    one.unlock();
  }
}

TEST_F(Parity, Sync_condition_travels_with_its_lock) {
  for (const bool recursive : {true, false}) {
    board::reset();
    carom::lock lock;
    const carom::condition condition = recursive ? carom::condition() : carom::condition(lock);
    forked waiter([&] {
      carom::condition there = travelled(condition);
      const std::scoped_lock held(there);
      board::add(0);
      return there.wait();
    });
    board::wait(0);
    carom::condition here = condition;
    here.lock();
    here.notify();
    here.unlock();
    EXPECT_TRUE(waiter.succeeded());
  }
}

void mark(unsigned slot, carom::event event) {
  board::set(slot, 1);
  event.set();
}

TEST_F(Parity, Sync_barrier_travels_with_its_action_and_what_that_holds) {
  const carom::event event;
  const carom::barrier barrier(1, carom::call(mark, 0u, event));
  carom::barrier there = travelled(travelled(barrier));
  EXPECT_EQ(there.wait(), 0);
  EXPECT_EQ(board::get(0), 1u);
  EXPECT_TRUE(event.is_set());
}

TEST_F(Parity, Sync_handles_travel_in_containers) {
  std::map<std::string, std::vector<carom::semaphore>> many;
  many["a"].emplace_back(1);
  many["a"].emplace_back(2);
  const auto there = travelled(many);
  carom::semaphore(there.at("a")[1]).release();
  EXPECT_EQ(many["a"][1].get_value(), 3);
  EXPECT_EQ(travelled(std::pair(carom::lock(), std::optional(carom::event()))).second->is_set(),
            false);
}

TEST_F(Parity, Sync_handle_of_another_kind_is_refused) {
  EXPECT_THROW(misread<carom::lock>(carom::rlock()), carom::encoding_error);
  EXPECT_THROW(misread<carom::rlock>(carom::lock()), carom::encoding_error);
  EXPECT_THROW(misread<carom::lock>(carom::event()), carom::encoding_error);
  EXPECT_THROW(misread<carom::event>(carom::lock()), carom::encoding_error);
  EXPECT_THROW(misread<carom::bounded_semaphore>(carom::semaphore(1)), carom::encoding_error);
  EXPECT_THROW(misread<carom::semaphore>(carom::lock()), carom::encoding_error);
  EXPECT_THROW(misread<carom::barrier>(carom::condition()), carom::encoding_error);
  EXPECT_THROW(misread<carom::condition>(carom::barrier(2)), carom::encoding_error);
}

int memory(std::size_t size, int seals, std::string content = {}) {
  const int fd = ::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (::ftruncate(fd, static_cast<off_t>(size)) != 0) throw std::runtime_error("ftruncate");
  if (::pwrite(fd, content.data(), content.size(), 0) < 0) throw std::runtime_error("pwrite");
  ::fcntl(fd, F_ADD_SEALS, seals);
  return fd;
}

TEST_F(Parity, Sync_handle_of_foreign_memory_is_refused) {
  struct candidate {
    const char* what;
    int fd;
  };
  const candidate candidates[] = {
      {"no memory at all", ::open("/dev/null", O_RDWR | O_CLOEXEC)},
      {"may shrink", memory(4096, 0)},
      {"too small", memory(8, F_SEAL_SHRINK | F_SEAL_GROW)},
      {"too large", memory(std::size_t{1} << 40, F_SEAL_SHRINK | F_SEAL_GROW)},
      {"without content", memory(80, F_SEAL_SHRINK | F_SEAL_GROW)},
      {"not writable", memory(80, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)},
      {"something else", memory(80, F_SEAL_SHRINK | F_SEAL_GROW, std::string(80, 'x'))},
  };
  for (const auto& [what, fd] : candidates) {
    detail::blob packed;
    detail::byte_writer out(packed);
    out.put_descriptor(fd);
    const detail::descriptor_scope in_reach(packed.find_descriptors());
    EXPECT_THROW(detail::decode<carom::lock>(packed.bytes()), carom::encoding_error) << what;
    EXPECT_THROW(detail::decode<carom::event>(packed.bytes()), carom::encoding_error) << what;
    ::close(fd);
  }
}

TEST_F(Parity, Sync_barrier_whose_memory_lies_about_its_parties_is_refused) {
  const carom::barrier barrier(2);
  detail::blob packed;
  detail::encode(packed, barrier);
  const int fd = packed.find_descriptors()->entries()[0].fd;
  for (const std::uint32_t parties : {0u, 3u, 0xffffffffu}) {
    ASSERT_EQ(::pwrite(fd, &parties, sizeof parties, 12), 4);
    const detail::descriptor_scope in_reach(packed.find_descriptors());
    EXPECT_THROW(detail::decode<carom::barrier>(packed.bytes()), carom::encoding_error) << parties;
  }
}

TEST_F(Parity, Sync_truncated_handles_are_refused) {
  detail::blob packed;
  detail::encode(packed, carom::barrier(2, carom::call(mark, 0u, carom::event())));
  const detail::descriptor_scope in_reach(packed.find_descriptors());
  for (std::size_t size = 0; size < packed.size(); ++size)
    EXPECT_THROW(detail::decode<carom::barrier>(packed.bytes().first(size)), carom::encoding_error)
        << size;
}

TEST_F(Parity, Sync_no_descriptor_left_is_told) {
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 0;
  ::setrlimit(RLIMIT_NOFILE, &none);
  EXPECT_THROW(carom::lock(), std::system_error);
  EXPECT_THROW(carom::condition(), std::system_error);
  ::setrlimit(RLIMIT_NOFILE, &before);
  carom::lock lock;
  EXPECT_TRUE(lock.try_lock());
  lock.unlock();
}

TEST_F(Parity, Sync_forked_child_and_grandchild_use_inherited_handles) {
  carom::lock lock;
  carom::semaphore semaphore(0);
  EXPECT_TRUE(forked([&] {
                return forked([&] {
                         const std::scoped_lock held(lock);
                         semaphore.release();
                         return true;
                       })
                    .succeeded();
              }).succeeded());
  EXPECT_TRUE(semaphore.acquire(0s));
  EXPECT_TRUE(lock.try_lock());
  lock.unlock();
}

}  // namespace
