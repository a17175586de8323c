// SPDX-License-Identifier: BSL-1.0
// shared_heap: allocator, containers and strings in memory that processes share.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <carom/errors.hpp>
#include <carom/shared.hpp>
#include <carom/shared_heap.hpp>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/shared/handles.hpp"
#include "tests/shared/kills.hpp"
#include "tests/support/board.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/forked.hpp"
#include "tests/support/leak_guard.hpp"

namespace {

using namespace std::chrono_literals;
using namespace carom::test;
using carom::heap_map;
using carom::heap_string;
using carom::heap_vector;
using carom::shared_heap;
using testing::HasSubstr;

TEST_F(Parity, Shared_heap_containers_between_processes) {
  shared_heap heap(1 << 20);
  auto& table = heap.make<heap_map<heap_string, heap_vector<int>>>("table");
  forked child([&] {
    auto* const found = heap.find<heap_map<heap_string, heap_vector<int>>>("table");
    if (!found) return false;
    heap.with([&] {
      for (int i = 0; i < 100; ++i) {
        auto& row = found
                        ->try_emplace(found->end(), heap_string(std::to_string(i).c_str(),
                                                                heap.allocator<char>()))
                        ->second;
        for (int k = 0; k < i; ++k) row.push_back(k);
      }
    });
    return true;
  });
  ASSERT_TRUE(child.succeeded());
  heap.read([&] {
    ASSERT_EQ(table.size(), 100u);
    const auto& row = table.find("99")->second;
    EXPECT_EQ(std::accumulate(row.begin(), row.end(), 0), 98 * 99 / 2);
  });
  EXPECT_TRUE(heap.check());
}

TEST_F(Parity, Shared_heap_given_away_while_it_is_used) {
  std::optional<shared_heap> heap(std::in_place, 64 * 1024);
  const shared_heap* const where = &*heap;
  EXPECT_EQ(heap->with([&] {
    heap.reset();
    return 1;
  }),
            1);
  heap.emplace(64 * 1024);
  EXPECT_EQ(&*heap, where);
  EXPECT_TRUE(heap->with([] { return true; })) << "no lock was left behind";
}

TEST_F(Parity, Shared_heap_handle_that_was_sent_is_the_same_heap) {
  shared_heap here(1 << 20);
  here.make<heap_string>("text", "a text that is too long to stand in the string object itself");
  shared_heap there = sent(here);
  auto* const text = there.find<heap_string>("text");
  ASSERT_NE(text, nullptr);
  EXPECT_NE(text, here.find<heap_string>("text")) << "mapped elsewhere";
  there.with([&] { text->append(", and longer"); });
  EXPECT_THAT(here.find<heap_string>("text")->c_str(), HasSubstr("itself, and longer"));
}

TEST_F(Parity, Shared_heap_elements_get_the_allocator_by_themselves) {
  shared_heap heap(1 << 20);
  auto& lists = heap.make<heap_vector<carom::heap_list<heap_string>>>("lists");
  heap.with([&] {
    lists.resize(2);
    lists[1].emplace_back("a string that stands in the heap, and so does its list");
    lists.insert(lists.begin(), lists[1]);
  });
  EXPECT_EQ(lists[0].front().get_allocator().heap(), lists.get_allocator().heap());
  EXPECT_EQ(lists[0], lists[2]);
  heap.place_of(lists[0].front().c_str());
}

struct plain {
  int x;
  carom::heap_ptr<plain> next;
};

TEST_F(Parity, Shared_heap_names) {
  shared_heap heap(1 << 20);
  EXPECT_EQ(heap.find<int>("n"), nullptr);
  EXPECT_EQ(heap.make<int>("n", 5), 5);
  EXPECT_THAT(message_of([&] { heap.make<int>("n", 6); }), HasSubstr("find it, or destroy it"));
  EXPECT_THAT(message_of([&] { heap.find<float>("n"); }), HasSubstr("another type"));
  for (const std::string& name : {std::string(), std::string("a\0b", 3), std::string(4097, 'x'),
                                  std::string(65'536, 'x'), std::string(2'000'000, 'x')}) {
    EXPECT_THROW(heap.make<int>(name, 6), std::invalid_argument);
    EXPECT_THROW(heap.find<int>(name), std::invalid_argument);
    EXPECT_THROW(heap.find_or_make<int>(name, 6), std::invalid_argument);
    EXPECT_THROW(heap.destroy<int>(name), std::invalid_argument);
  }
  const std::string longest(4096, 'x');
  EXPECT_EQ(heap.make<int>(longest, 7), 7);
  EXPECT_EQ(*heap.find<int>(longest), 7);
  EXPECT_TRUE(heap.destroy<int>(longest));
  EXPECT_EQ(heap.find_or_make<int>("n", 7), 5);
  EXPECT_EQ(heap.find_or_make<int>("m", 7), 7);
  EXPECT_TRUE(heap.destroy<int>("n"));
  EXPECT_FALSE(heap.destroy<int>("n"));
  EXPECT_EQ(heap.make<int>("n", 8), 8);
}

TEST_F(Parity, Shared_heap_objects_without_names) {
  shared_heap here(1 << 20), there = sent(here);
  plain* const first = here.create<plain>(plain{1, nullptr});
  first->next = here.create<plain>(plain{2, nullptr});
  const std::uint64_t place = here.place_of(first);
  EXPECT_EQ(there.at<plain>(place).next->x, 2);
  int elsewhere = 0;
  EXPECT_THROW(here.place_of(&elsewhere), std::invalid_argument);
  EXPECT_THROW(here.at<plain>(here.size()), std::out_of_range);
  EXPECT_THROW(here.at<plain>(~std::uint64_t{0} - 3), std::out_of_range);
  EXPECT_THROW(here.at<plain>(place + 1), std::out_of_range);
  const std::size_t before = here.free_memory();
  here.destroy(first->next.get());
  here.destroy(first);
  EXPECT_GT(here.free_memory(), before);
}

TEST_F(Parity, Shared_heap_that_is_full) {
  shared_heap heap(64 * 1024);
  auto& bytes = heap.make<heap_vector<char>>("bytes");
  EXPECT_THROW(heap.with([&] { bytes.resize(1 << 20); }), std::bad_alloc);
  EXPECT_FALSE(heap.damaged());
  heap.with([&] { bytes.resize(1000); });
  using too_large = std::array<char, 100'000>;
  EXPECT_THROW(heap.make<too_large>("too large"), std::bad_alloc);
  EXPECT_TRUE(heap.check());
  EXPECT_THROW(shared_heap(0), std::invalid_argument);
  EXPECT_THROW(shared_heap(~std::size_t{0}), std::invalid_argument);
}

TEST_F(Parity, Shared_heap_what_is_thrown_damages_nothing) {
  shared_heap heap(1 << 20);
  EXPECT_THROW(heap.with([] { throw std::runtime_error("no"); }), std::runtime_error);
  EXPECT_EQ(heap.with([] { return 4; }), 4);
  EXPECT_EQ(heap.with([](shared_heap& same) { return same.read([] { return 5; }); }), 5);
}

TEST_F(Parity, Shared_heap_in_use_by_another) {
  shared_heap heap(1 << 20);
  heap.with([&] {
    std::thread other([&] {
      EXPECT_THROW(heap.with([] {}, 1ms), carom::timeout_error);
      EXPECT_THROW(heap.read([] {}, 1ms), carom::timeout_error);
    });
    other.join();
  });
}

struct alignas(256) wide {
  char bytes[256];
};

TEST_F(Parity, Shared_heap_alignment) {
  shared_heap heap(1 << 20);
  for (int i = 0; i < 10; ++i) {
    heap.create<char>('x');
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(heap.create<wide>()) % 256, 0u);
  }
}

/// Many blocks of different sizes, made and given back in random order.
TEST_F(Parity, Shared_heap_stress) {
  seeded random;
  std::mt19937_64 engine(random.below(1 << 30));
  std::lognormal_distribution<double> sizes(0, 1);
  shared_heap heap(8 << 20);
  const std::size_t untouched = heap.free_memory();
  struct block {
    char* begin;
    std::size_t size;
    char fill;
  };
  std::vector<block> blocks;
  auto from = heap.allocator<char>();
  const auto give_back = [&](block& one) {
    EXPECT_TRUE(
        std::all_of(one.begin, one.begin + one.size, [&](char c) { return c == one.fill; }));
    from.deallocate(carom::heap_ptr<char>(one.begin), one.size);
  };
  for (int i = 0; i < (std::getenv("CAROM_FULL") ? 500'000 : 20'000); ++i) {
    const auto size = static_cast<std::size_t>(std::min(sizes(engine), 60.0) * 1000) + 1;
    blocks.push_back({from.allocate(size).get(), size, static_cast<char>(i)});
    std::memset(blocks.back().begin, blocks.back().fill, size);
    if (blocks.size() > 50) {
      std::swap(blocks[random.below(50)], blocks.back());
      give_back(blocks.back());
      blocks.pop_back();
    }
  }
  EXPECT_TRUE(heap.check());
  std::ranges::sort(blocks, {}, &block::begin);
  for (std::size_t i = 1; i < blocks.size(); ++i)
    EXPECT_LE(blocks[i - 1].begin + blocks[i - 1].size, blocks[i].begin) << "blocks overlap";
  for (block& one : blocks) give_back(one);
  EXPECT_EQ(heap.free_memory(), untouched);
  EXPECT_TRUE(heap.check());
}

TEST_F(Parity, Shared_heap_stress_among_processes) {
  seeded random;
  shared_heap heap(8 << 20);
  const std::size_t untouched = heap.free_memory();
  const std::uint64_t seed = random.below(1 << 30);
  std::vector<forked> children;
  for (std::uint64_t c = 0; c < 3; ++c)
    children.emplace_back([&, c] {
      std::mt19937_64 engine(seed + c);
      std::vector<heap_vector<int>> mine;
      for (int i = 0; i < 3000; ++i) {
        mine.emplace_back(engine() % 500, static_cast<int>(c), heap.allocator<int>());
        if (mine.size() > 30) mine.erase(mine.begin() + static_cast<long>(engine() % 30));
        for (int each : mine.back())
          if (each != static_cast<int>(c)) return false;
      }
      return true;
    });
  for (forked& child : children) EXPECT_TRUE(child.succeeded());
  EXPECT_EQ(heap.free_memory(), untouched);
  EXPECT_TRUE(heap.check());
}

TEST_F(Parity, Shared_heap_stress_among_threads) {
  shared_heap heap(8 << 20);
  const std::size_t untouched = heap.free_memory();
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 2000; ++i) {
        const heap_vector<int> mine(static_cast<std::size_t>(i % 100), t, heap.allocator<int>());
        EXPECT_EQ(std::count(mine.begin(), mine.end(), t), i % 100);
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(heap.free_memory(), untouched);
}

TEST_F(Parity, Shared_heap_killed_writer_damages_it) {
  shared_heap heap(1 << 20);
  heap.make<int>("n", 1);
  forked child([&] {
    heap.with([] {
      board::set(0, 1);
      for (;;) ::pause();
    });
    return true;
  });
  ASSERT_TRUE(board::wait(0));
  child.kill();
  EXPECT_THAT(message_of([&] { heap.with([] {}); }), HasSubstr("damaged"));
  EXPECT_THAT(message_of([&] { heap.find<int>("n"); }), HasSubstr("make a new one"));
  EXPECT_THAT(message_of([&] { sent(heap).read([] {}); }), HasSubstr("damaged"));
  EXPECT_THROW(heap.allocator<int>().allocate(1), carom::process_error);
  EXPECT_TRUE(heap.damaged());
}

TEST_F(Parity, Shared_heap_killed_reader_damages_nothing) {
  shared_heap heap(1 << 20);
  forked child([&] {
    heap.read([] {
      board::set(0, 1);
      for (;;) ::pause();
    });
    return true;
  });
  ASSERT_TRUE(board::wait(0));
  child.kill();
  EXPECT_FALSE(heap.damaged());
  heap.make<int>("n", 1);
}

/// Each round a process is killed at a random instant while it changes the heap: then it is sound,
/// or says that it is damaged.
TEST_F(Parity, Shared_heap_writers_are_killed) {
  seeded random;
  int damaged = 0;
  const int count = kills(200, 4000);
  using map = heap_map<int, heap_string>;
  for (int i = 0; i < count; ++i) {
    shared_heap heap(1 << 20);
    auto& table = heap.make<map>("table");
    const std::uint64_t seed = random.below(1 << 30);
    forked victim([&] {
      std::mt19937_64 engine(seed);
      for (;;) {
        const int key = static_cast<int>(engine() % 50);
        heap.with([&] {
          table.erase(key);
          table.emplace(key, std::string(engine() % 200, static_cast<char>('a' + key)).c_str());
        });
        heap.read([&] { return table.size(); });
      }
      return false;
    });
    random.pause(800);
    victim.kill();
    try {
      heap.with([&] {
        ASSERT_TRUE(heap.check());
        for (const auto& [key, text] : table)
          ASSERT_EQ(text.find_first_not_of(static_cast<char>('a' + key)), heap_string::npos);
        table.clear();
      });
      EXPECT_TRUE(heap.destroy<map>("table"));
    } catch (const carom::process_error& error) {
      EXPECT_THAT(error.what(), HasSubstr("damaged"));
      ++damaged;
    }
  }
  EXPECT_LT(damaged, count);
  RecordProperty("damaged", damaged);
}

TEST_F(Parity, Shared_heap_killed_at_instructions_of_an_allocation) {
  std::optional<shared_heap> heap(std::in_place, 64 * 1024);
  std::size_t untouched = heap->free_memory();
  int damaged = 0;
  const int done = kill_at_instructions(
      [&] {
        auto from = heap->allocator<int>();
        from.deallocate(from.allocate(100), 100);
      },
      std::getenv("CAROM_FULL") ? 3 : 61 * slowness * slowness,
      [&](std::uint64_t at) {
        try {
          ASSERT_TRUE(heap->check()) << at;
          ASSERT_GE(heap->free_memory() + 1000, untouched) << at;
          if (heap->free_memory() == untouched) return;
        } catch (const carom::process_error&) {
          ++damaged;
        }
        heap.emplace(64 * 1024);  // damaged, or with a block that died with its owner
        untouched = heap->free_memory();
      });
  EXPECT_GT(damaged, 1);
  EXPECT_LT(damaged, done);
}

TEST_F(Parity, Shared_heap_refuses_what_no_heap_can_hold) {
  shared_heap heap(1 << 20);
  const std::size_t untouched = heap.free_memory();
  auto bytes = heap.allocator<char>();
  for (std::size_t most :
       {std::size_t{1} << 20, SIZE_MAX / 2, SIZE_MAX - 64, SIZE_MAX - 1, SIZE_MAX})
    EXPECT_THROW((void)bytes.allocate(most), std::bad_alloc) << most;
  struct alignas(4096) wide {
    char bytes[4096];
  };
  EXPECT_THROW((void)heap.allocator<wide>().allocate(SIZE_MAX / sizeof(wide)), std::bad_alloc);
  EXPECT_TRUE(heap.check());
  EXPECT_EQ(heap.free_memory(), untouched);
}

TEST_F(Parity, Shared_heap_that_was_moved_from_is_still_the_same) {
  shared_heap heap(1 << 20);
  shared_heap moved = std::move(heap);
  moved.make<int>("n", 7);
  EXPECT_EQ(*heap.find<int>("n"), 7);
}

TEST_F(Parity, Shared_heap_wrong_memory_is_refused) {
  carom::value<int> v;
  EXPECT_THROW((sent_as<shared_heap>(v.get_obj())), carom::encoding_error);
  shared_heap heap(1 << 20);
  EXPECT_THROW((sent_as<carom::raw_value<int>>(heap)), carom::encoding_error);
}

TEST_F(Parity, Shared_heap_cycles_leave_nothing_behind) {
  const auto before = holdings::now();
  for (int i = 0; i < (std::getenv("CAROM_FULL") ? 100'000 : 10'000); ++i) {
    shared_heap heap(1 << 20);
    heap.make<int>("n", i);
  }
  EXPECT_TRUE(holdings::now().within(before)) << holdings::now();
}

}  // namespace
