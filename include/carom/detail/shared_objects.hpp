// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/polymorphic.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <typeindex>
#include <typeinfo>
#include <utility>
#include <vector>

namespace carom::detail {

/// A shared_ptr that leads back to an object which contains it would never be freed at the receiver
/// when its bytes are cut short, so only weak_ptr may do that.
enum class reference_cycles { refused, allowed };

/// What was shared so far in one message, at the sender. An object is told by its address and
/// class.
class CAROM_API shared_objects_out {
 public:
  /// The number of the object, and whether it has not been met before. `owner` is held to the end
  /// of the message, so that no other object gets its address meanwhile.
  std::pair<std::uint32_t, bool> enter(std::shared_ptr<const void> owner, const void* object,
                                       const std::type_info& type, reference_cycles cycles);
  void complete(std::uint32_t number) { objects_[number].complete = true; }

 private:
  struct object {
    std::shared_ptr<const void> owner;
    bool complete;
  };
  std::map<std::pair<const void*, std::type_index>, std::uint32_t> numbers_;
  std::vector<object> objects_;
};

/// The same at the receiver, where numbers are not trusted.
class CAROM_API shared_objects_in {
 public:
  struct object {
    std::shared_ptr<void> owner;
    const std::type_info* type;
    bool complete;

    /// Throws encoding_error when the object is no T.
    template <class T>
    T* as() const {
      if (*type == typeid(T)) return static_cast<T*>(owner.get());
      return static_cast<T*>(upcast(*type, typeid(T), owner.get()));
    }
  };

  std::uint32_t enter(std::shared_ptr<void> owner, const std::type_info& type);
  void complete(std::uint32_t number) { objects_[number].complete = true; }
  const object& at(std::uint32_t number, reference_cycles cycles) const;

 private:
  std::vector<object> objects_;
};

}  // namespace carom::detail
