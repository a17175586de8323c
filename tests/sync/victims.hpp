// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <functional>
#include <new>
#include <random>
#include <vector>

#include "tests/support/forked.hpp"

namespace carom::test {

/// A value that forked processes share with the test.
template <class T>
class shared_with_forks {
 public:
  shared_with_forks() {
    void* const at =
        ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    value_ = new (at) T{};
  }
  shared_with_forks(const shared_with_forks&) = delete;
  shared_with_forks& operator=(const shared_with_forks&) = delete;
  ~shared_with_forks() { ::munmap(value_, sizeof(T)); }

  T* operator->() const { return value_; }
  T& operator*() const { return *value_; }

 private:
  T* value_;
};

/// How many kills a test does: few, or with CAROM_FULL in the environment many.
int kills(int few, int many);
/// CAROM_SEED, or one of its own; a failed test says which.
std::uint64_t chosen_seed();

/// Processes that do something again and again, and are killed at any instant.
class victims {
 public:
  explicit victims(std::uint64_t seed) : random_(seed) {}

  /// One that runs `step` for ever.
  void add(std::function<void()> step);
  /// Lets a random time pass, kills a random one, and starts another in its place.
  void kill_one();
  /// Kills all.
  void end() { running_.clear(); }

 private:
  struct victim {
    std::function<void()> step;
    forked process;
  };

  std::mt19937_64 random_;
  std::vector<victim> running_;
};

/// Whether `counter` grows.
bool goes_on(const std::function<std::uint64_t()>& counter);

}  // namespace carom::test
