// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/packed_oarchive.hpp>

#include <boost/archive/basic_archive.hpp>
#include <boost/archive/detail/helper_collection.hpp>
#include <boost/archive/detail/interface_iarchive.hpp>
#include <boost/serialization/wrapper.hpp>

#include <cstddef>
#include <optional>
#include <span>
#include <type_traits>

namespace carom::detail {

/// What a user's `serialize` sees when a value is unpacked. Throws encoding_error on bytes that
/// packed_oarchive cannot have written for the same types.
class packed_iarchive : public byte_reader,
                        public boost::archive::detail::interface_iarchive<packed_iarchive> {
 public:
  explicit packed_iarchive(std::span<const std::byte> bytes) : byte_reader{bytes} {}
  packed_iarchive(const packed_iarchive&) = delete;
  packed_iarchive& operator=(const packed_iarchive&) = delete;

  template <class T>
  void load_override(T& value) {
    using target = std::remove_const_t<T>;
    if constexpr (boost_bookkeeping<target>) {
      throw_bookkeeping();
    } else {
      static_assert(!std::is_const_v<T> || boost::serialization::is_wrapper<target>::type::value,
                    "carom: serialize() reads into a constant");
      detail::unpack(*this, const_cast<target&>(value));
    }
  }
  void load_binary(void* bytes, std::size_t count) { get(bytes, count); }

  static boost::serialization::library_version_type get_library_version() {
    return packed_oarchive::get_library_version();
  }
  static unsigned get_flags() noexcept { return packed_oarchive::get_flags(); }
  // Nothing here keeps track of addresses, or of what it has made.
  static void reset_object_address(const void*, const void*) noexcept {}
  static void delete_created_pointers() noexcept {}
  static void set_library_version(boost::serialization::library_version_type) noexcept {}
  boost::archive::detail::helper_collection& get_helper_collection() {
    if (!helpers_) helpers_.emplace();
    return *helpers_;
  }

  template <class T>
  const void* register_type(const T* = nullptr) {
    if constexpr (!std::is_abstract_v<T>)
      (void)polymorphic_type<T, packed_oarchive, packed_iarchive>::registered;
    return nullptr;
  }

  int& depth() noexcept { return depth_; }
  shared_objects_in& shared_objects() {
    if (!shared_objects_) shared_objects_.emplace();
    return *shared_objects_;
  }
  /// Begins a message that shares nothing with the one before, nor what helpers remember, with what
  /// is left of another reader.
  void start_anew(const byte_reader& from) {
    static_cast<byte_reader&>(*this) = from;
    shared_objects_.reset();
    helpers_.reset();
  }

 private:
  int depth_ = 0;
  std::optional<shared_objects_in> shared_objects_;
  std::optional<archive_helpers> helpers_;
};

}  // namespace carom::detail
