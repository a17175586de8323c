// SPDX-License-Identifier: BSL-1.0
#include "runtime/segment.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "runtime/worker_segments.hpp"

namespace carom::runtime {
namespace {

constexpr std::size_t page = 4096;

bool maps(int fd, int protection) {
  void* const at = ::mmap(nullptr, page, protection, MAP_SHARED, fd, 0);
  if (at != MAP_FAILED) ::munmap(at, page);
  return at != MAP_FAILED;
}

TEST(SharedMemory, CannotShrinkUnderAReaderOrGrow) {
  const unique_fd fd = make_shared_memory("carom-test", 4 * page);
  EXPECT_NE(::ftruncate(fd.get(), page), 0);
  EXPECT_EQ(errno, EPERM);
  EXPECT_NE(::ftruncate(fd.get(), 8 * page), 0);
  EXPECT_EQ(errno, EPERM);
}

TEST(SharedMemory, IsCloseOnExec) {
  const unique_fd fd = make_shared_memory("carom-test", page);
  EXPECT_TRUE(::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC);
}

TEST(SharedMemory, OnceSealedAgainstWritingItIsWrittenThroughOldMappingsOnly) {
  const unique_fd fd = make_shared_memory("carom-test", page);
  const mapping before(fd.get(), page, mapping::access::read_write);
  EXPECT_TRUE(maps(fd.get(), PROT_READ | PROT_WRITE));
  seal_against_writing(fd);
  EXPECT_FALSE(maps(fd.get(), PROT_READ | PROT_WRITE));
  EXPECT_TRUE(maps(fd.get(), PROT_READ));
  EXPECT_LT(::write(fd.get(), "x", 1), 0);

  // Nor through a descriptor that is opened anew.
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  const unique_fd again(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(again);
  EXPECT_FALSE(maps(again.get(), PROT_READ | PROT_WRITE));

  const mapping reader(fd.get(), page, mapping::access::read);
  std::memcpy(before.data(), "seen", 5);
  EXPECT_STREQ(reinterpret_cast<const char*>(reader.data()), "seen");
}

TEST(SharedMemory, OnlySealedMemoryThatIsLongEnoughIsTaken) {
  const unique_fd sealed = make_shared_memory("carom-test", 2 * page);
  EXPECT_TRUE(is_sealed_memory(sealed.get(), 2 * page));
  EXPECT_FALSE(is_sealed_memory(sealed.get(), 2 * page + 1));
  EXPECT_FALSE(is_sealed_memory(sealed.get(), SIZE_MAX));

  const unique_fd open_ended(::memfd_create("carom-test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(open_ended.get(), 2 * page), 0);
  EXPECT_FALSE(is_sealed_memory(open_ended.get(), page));
  const unique_fd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(is_sealed_memory(file.get(), 1));
  EXPECT_FALSE(is_sealed_memory(-1, 1));
}

TEST(Mapping, MovesWithItsOwner) {
  const unique_fd fd = make_shared_memory("carom-test", page);
  mapping first(fd.get(), page, mapping::access::read_write);
  std::byte* const at = first.data();
  mapping second(std::move(first));
  EXPECT_EQ(second.data(), at);
  mapping third;
  third = std::move(second);
  EXPECT_EQ(third.data(), at);
  EXPECT_EQ(third.size(), page);
  *third.data() = std::byte{1};
}

TEST(Mapping, ThrowsForWhatCannotBeMapped) {
  EXPECT_THROW(mapping(-1, page, mapping::access::read), std::system_error);
  const unique_fd fd = make_shared_memory("carom-test", page);
  seal_against_writing(fd);
  EXPECT_THROW(mapping(fd.get(), page, mapping::access::read_write), std::system_error);
}

/// Runs `body` in a forked copy of this process; its value is the exit status.
template <class Body>
int in_a_copy(Body body) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(body());
  int status = -1;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Mapping, AForkedCopyHasNone) {
  const unique_fd fd = make_shared_memory("carom-test", page);
  mapping memory(fd.get(), page, mapping::access::read_write);
  EXPECT_EQ(in_a_copy([&] {
              unsigned char resident = 0;
              const bool there = ::mincore(memory.data(), page, &resident) == 0;
              // What lies there in the copy is somebody else's: its end must not unmap it.
              void* const other = ::mmap(memory.data(), page, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
              memory = mapping();
              return there || ::mincore(other, page, &resident) != 0;
            }),
            0);
}

class ArgumentSegments : public testing::Test {
 protected:
  ~ArgumentSegments() override { source_.trim(); }

  static segment& of(const detail::segment_source::block& b) {
    return *static_cast<argument_block*>(b.handle)->shared;
  }
  argument_segments& source_ = argument_segments::instance();
};

TEST_F(ArgumentSegments, HoldsWhatIsAskedForBehindAHeader) {
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{65'537}, std::size_t{131'072 - 64}, std::size_t{131'072 - 63},
        std::size_t{8} << 20, (std::size_t{64} << 20) - 64, std::size_t{64} << 20}) {
    const auto block = source_.acquire(size);
    EXPECT_GE(block.capacity, size);
    EXPECT_LE(block.capacity, std::max<std::size_t>(128 * 1024, size + size / 8 + page)) << size;
    EXPECT_EQ(block.data, of(block).memory.data() + segment::header_size);
    EXPECT_TRUE(is_sealed_memory(of(block).fd.get(), block.capacity + segment::header_size));
    block.data[0] = block.data[size - 1] = std::byte{1};
    source_.release(block.handle);
  }
}

TEST_F(ArgumentSegments, CannotBeWrittenByWorkers) {
  const auto block = source_.acquire(100'000);
  EXPECT_FALSE(maps(of(block).fd.get(), PROT_READ | PROT_WRITE));
  EXPECT_TRUE(maps(of(block).fd.get(), PROT_READ));
  source_.release(block.handle);
}

TEST_F(ArgumentSegments, AreUsedAgainForTheirSize) {
  const auto first = source_.acquire(1'000'000);
  const std::uint64_t ticket = of(first).ticket;
  source_.release(first.handle);
  const auto other = source_.acquire(3'000'000);
  EXPECT_NE(of(other).ticket, ticket);
  const auto again = source_.acquire(1'000'001);
  EXPECT_EQ(of(again).ticket, ticket);
  const auto second = source_.acquire(1'000'000);
  EXPECT_NE(of(second).ticket, ticket) << "it is taken";
  for (const auto& one : {other, again, second}) source_.release(one.handle);
}

TEST_F(ArgumentSegments, WhatIsTooMuchToKeepIsGivenUpAndNamedToEachWhoAsks) {
  std::uint64_t mine = source_.drops(), others = source_.drops();
  std::set<std::uint64_t> tickets;
  std::vector<detail::segment_source::block> held;
  for (int i = 0; i < 4; ++i) {
    held.push_back(source_.acquire(std::size_t{100} << 20));
    tickets.insert(of(held.back()).ticket);
  }
  EXPECT_EQ(tickets.size(), 4u);
  for (const auto& one : held) source_.release(one.handle);
  EXPECT_EQ(source_.drops(), mine + 3) << "100 MiB are kept";
  const auto dropped = source_.dropped_since(mine);
  EXPECT_EQ(dropped.size(), 3u);
  for (const std::uint64_t ticket : dropped) EXPECT_TRUE(tickets.contains(ticket));
  EXPECT_TRUE(source_.dropped_since(mine).empty()) << "once";
  EXPECT_EQ(source_.dropped_since(others), dropped);
}

TEST_F(ArgumentSegments, BeyondSomeNumberTasksWaitInTheHeapAndGetASegmentWhenTheyAreSent) {
  std::vector<detail::blob> waiting;
  const segment* last = nullptr;
  for (int i = 0; i < 300; ++i) {
    detail::blob& one = waiting.emplace_back(&source_);
    one.resize_uninitialized(70'000);
    std::memset(one.data(), i, one.size());
    ASSERT_NE(one.segment(), nullptr);
  }
  int in_heap = 0;
  for (const auto& one : waiting) in_heap += !static_cast<argument_block*>(one.segment())->shared;
  EXPECT_GE(in_heap, 100);
  for (int i = 0; i < 300; ++i) {
    const segment* const shared = source_.share(waiting[static_cast<std::size_t>(i)]);
    ASSERT_NE(shared, nullptr);
    EXPECT_NE(shared, last);
    last = shared;
    EXPECT_EQ(shared->data()[69'999], static_cast<std::byte>(i));
    EXPECT_EQ(source_.share(waiting[static_cast<std::size_t>(i)]), shared) << "the same for ever";
  }
}

TEST_F(ArgumentSegments, ThrowsForWhatNoMemoryCanHold) {
  EXPECT_THROW((void)source_.acquire(SIZE_MAX), std::bad_alloc);
}

TEST_F(ArgumentSegments, AForkedCopyStartsWithNone) {
  const auto block = source_.acquire(500'000);
  const std::uint64_t ticket = of(block).ticket;
  source_.release(block.handle);
  EXPECT_EQ(in_a_copy([&] {
              const auto own = source_.acquire(500'000);
              std::memset(own.data, 1, 500'000);
              return of(own).ticket == ticket;
            }),
            0);
}

TEST_F(ArgumentSegments, CarryABlobPastItsThresholdAndComeBackWithItsEnd) {
  const std::vector<std::byte> bytes(detail::blob::segment_threshold + 1, std::byte{42});
  std::set<std::uint64_t> tickets;
  for (int i = 0; i < 2; ++i) {
    detail::blob payload(&source_);
    payload.append(bytes.data(), bytes.size() - 1);
    EXPECT_EQ(payload.segment(), nullptr);
    payload.append(bytes.data(), 1);
    ASSERT_NE(payload.segment(), nullptr);
    tickets.insert(source_.share(payload)->ticket);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), payload.data()));
  }
  EXPECT_EQ(tickets.size(), 1u) << "used again";
}

class ResultSegments : public testing::Test {
 protected:
  /// A worker's result of `size` bytes, read and let go.
  void read_and_release(const std::shared_ptr<segment>& lent) {
    lent->lent = true;
    lent->in_use() = 1;
    detail::blob result;
    result.adopt_segment(result_segments::instance(),
                         {lent->data(), lent->capacity, result_segments::handle(lent, account_)},
                         1'000);
    EXPECT_EQ(lent->in_use(), 1u);
  }
  std::shared_ptr<warm_results> account_ = std::make_shared<warm_results>();
};

TEST_F(ResultSegments, AreTheWorkersAgainWhenTheHostHasRead) {
  const auto lent = std::make_shared<segment>(128 * 1024, true);
  EXPECT_TRUE(maps(lent->fd.get(), PROT_READ | PROT_WRITE)) << "a worker writes it";
  read_and_release(lent);
  EXPECT_EQ(lent->in_use(), 0u);
  EXPECT_FALSE(lent->lent);
  EXPECT_EQ(lent.use_count(), 1);
  EXPECT_EQ(account_->bytes, lent->capacity);
}

TEST_F(ResultSegments, OnlySoManyIdleBytesStayWarm) {
  const auto large = std::make_shared<segment>(warm_results::most_bytes, true);
  const auto other = std::make_shared<segment>(1 << 20, true);
  other->data()[page] = large->data()[page] = std::byte{1};
  read_and_release(large);
  read_and_release(other);
  EXPECT_EQ(large->data()[page], std::byte{1});
  EXPECT_EQ(other->data()[page], std::byte{0}) << "its memory is the kernel's again";
  EXPECT_EQ(other->in_use(), 0u) << "but it can be used again";
}

// --- the worker's side ---------------------------------------------------------------------------

/// A host that grants what it is told to.
class WorkerSegments : public testing::Test, protected worker_segments::requests {
 protected:
  std::uint64_t need_segment(std::uint64_t bytes) override {
    ++asked_;
    if (refuses_) return 0;
    const auto one = grant(bytes + segment::header_size, true);
    return one->ticket;
  }
  void dropped(std::uint64_t ticket) override { dropped_.insert(ticket); }

  std::shared_ptr<segment> grant(std::size_t size, bool writable) {
    granted_.push_back(std::make_shared<segment>(size, writable));
    EXPECT_TRUE(mine_.add({granted_.back()->ticket, size, writable}, granted_.back()->fd));
    return granted_.back();
  }

  std::vector<std::shared_ptr<segment>> granted_;
  std::set<std::uint64_t> dropped_;
  int asked_ = 0;
  bool refuses_ = false;
  worker_segments mine_{*this};
};

TEST_F(WorkerSegments, ReadsWhatTheHostHasWritten) {
  const auto one = grant(2 * page, false);
  std::memcpy(one->data(), "arguments", 9);
  const auto read = mine_.read(one->ticket, 9);
  ASSERT_TRUE(read);
  EXPECT_EQ(std::memcmp(read->data(), "arguments", 9), 0);
  EXPECT_TRUE(mine_.read(one->ticket, one->capacity));
  EXPECT_FALSE(mine_.read(one->ticket, one->capacity + 1));
  EXPECT_FALSE(mine_.read(one->ticket, UINT64_MAX));
  EXPECT_FALSE(mine_.read(one->ticket + 1, 0));
  mine_.forget(one->ticket);
  EXPECT_FALSE(mine_.knows(one->ticket));
  EXPECT_FALSE(mine_.read(one->ticket, 0));
}

TEST_F(WorkerSegments, TakesNoDescriptorThatIsNotWhatItSays) {
  const unique_fd memory = make_shared_memory("carom-test", page);
  EXPECT_FALSE(mine_.add({1, page + 1, false}, memory));
  EXPECT_FALSE(mine_.add({1, segment::header_size, false}, memory));
  EXPECT_FALSE(mine_.add({1, 0, false}, memory));
  const unique_fd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(mine_.add({1, page, false}, file));
  EXPECT_FALSE(mine_.knows(1));
}

TEST_F(WorkerSegments, AResultsSegmentIsUsedAgainWhenTheHostHasReadIt) {
  detail::blob result(&mine_);
  result.resize_uninitialized(100'000);
  ASSERT_NE(result.segment(), nullptr);
  const std::uint64_t ticket = worker_segments::ticket(result.detach_segment());
  EXPECT_EQ(granted_[0]->in_use(), 1u);
  EXPECT_EQ(ticket, granted_[0]->ticket);

  detail::blob second(&mine_);
  second.resize_uninitialized(100'000);
  EXPECT_EQ(asked_, 2) << "the first has not been read yet";
  granted_[0]->in_use() = 0;
  detail::blob third(&mine_);
  third.resize_uninitialized(90'000);
  EXPECT_EQ(asked_, 2);
}

TEST_F(WorkerSegments, WhatIsTooSmallIsDroppedForSomethingLarger) {
  { detail::blob(&mine_).resize_uninitialized(100'000); }
  { detail::blob(&mine_).resize_uninitialized(10'000'000); }
  EXPECT_EQ(asked_, 2);
  EXPECT_EQ(dropped_, (std::set<std::uint64_t>{granted_[0]->ticket}));
  EXPECT_FALSE(mine_.knows(granted_[0]->ticket));
}

TEST_F(WorkerSegments, AnArgumentsSegmentIsNeverWritten) {
  grant(1 << 20, false);
  detail::blob result(&mine_);
  result.resize_uninitialized(100'000);
  EXPECT_EQ(asked_, 1);
}

TEST_F(WorkerSegments, WithoutMemoryTheResultIsAnError) {
  refuses_ = true;
  EXPECT_THROW((void)mine_.acquire(100'000), encoding_error);
}

}  // namespace
}  // namespace carom::runtime
