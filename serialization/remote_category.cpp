// SPDX-License-Identifier: BSL-1.0
#include "serialization/remote_category.hpp"

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

namespace carom::serialization {

namespace {

constexpr std::size_t most_names = 256;
constexpr std::size_t most_values = 128;
constexpr std::size_t longest_text = 512;

/// Grows only, without locks.
template <class T>
class kept_list {
 public:
  constexpr kept_list() = default;

  template <class Matches>
  const T* find(Matches matches) const {
    return find_from(first_.load(std::memory_order_acquire), matches);
  }
  /// What matches, else what `make` gives; null if there are `most` already.
  template <class Matches, class Make>
  const T* find_or_add(std::size_t most, Matches matches, Make make) {
    std::unique_ptr<node> added;
    node* first = first_.load(std::memory_order_acquire);
    do {
      if (const T* found = find_from(first, matches)) return found;
      if (first && first->count >= most) return nullptr;
      if (!added) added.reset(new node{make()});
      added->next = first;
      added->count = first ? first->count + 1 : 1;
    } while (!first_.compare_exchange_weak(first, added.get(), std::memory_order_acq_rel,
                                           std::memory_order_acquire));
    return &added.release()->value;
  }

 private:
  struct node {
    T value;
    node* next = nullptr;
    std::size_t count = 0;
  };

  template <class Matches>
  static const T* find_from(const node* at, Matches matches) {
    for (; at; at = at->next)
      if (matches(at->value)) return &at->value;
    return nullptr;
  }

  std::atomic<node*> first_{nullptr};
};

class remote_category final : public std::error_category {
 public:
  explicit remote_category(std::string name) : name_(std::move(name)) {}

  const char* name() const noexcept override { return name_.c_str(); }
  std::string message(int value) const override {
    const entry* const known = find(value);
    return known ? known->message : "error " + std::to_string(value);
  }
  std::error_condition default_error_condition(int value) const noexcept override {
    const entry* const known = find(value);
    if (known && known->condition) return {*known->condition, std::generic_category()};
    return {value, *this};
  }

  void learn(const remote_code& code) const {
    (void)entries_.find_or_add(
        most_values, [&](const entry& one) { return one.value == code.value; },
        [&] {
          return entry{code.value, code.message.substr(0, longest_text), code.condition};
        });
  }

 private:
  struct entry {
    int value;
    std::string message;
    std::optional<int> condition;
  };

  const entry* find(int value) const {
    return entries_.find([value](const entry& one) { return one.value == value; });
  }

  std::string name_;
  mutable kept_list<entry> entries_;
};

/// Null if there are too many.
const remote_category* category_named(const std::string& name) {
  static constinit kept_list<const remote_category*> known;
  const auto* const found = known.find_or_add(
      most_names, [&](const remote_category* one) { return one->name() == name; },
      [&] { return new remote_category(name); });
  return found ? *found : nullptr;
}

}  // namespace

remote_code remote_code::of(const std::error_code& code) {
  remote_code told{code.category().name(), code.value(), code.message(), std::nullopt};
  const std::error_condition condition = code.default_error_condition();
  if (condition.category() == std::generic_category()) told.condition = condition.value();
  return told;
}

std::error_code make_code(const remote_code& code) {
  static const auto* const unknown = new remote_category("remote");
  const auto* const category = category_named(code.category.substr(0, longest_text));
  if (!category) return {code.value, *unknown};
  category->learn(code);
  return {code.value, *category};
}

}  // namespace carom::serialization
