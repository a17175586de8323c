// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/byte_stream.hpp>
#include <carom/detail/form_boost.hpp>
#include <carom/detail/form_pointers.hpp>
#include <carom/export.hpp>

#include <boost/archive/basic_archive.hpp>
#include <boost/archive/detail/helper_collection.hpp>
#include <boost/archive/detail/interface_oarchive.hpp>
#include <boost/archive/detail/register_archive.hpp>
#include <boost/serialization/library_version_type.hpp>

#include <cstddef>
#include <optional>

namespace carom::detail {

template <class T>
concept boost_bookkeeping = std::is_base_of_v<boost::archive::class_id_type, T> ||
    std::is_base_of_v<boost::archive::object_id_type, T> ||
    std::is_same_v<T, boost::archive::version_type> ||
    std::is_same_v<T, boost::archive::tracking_type> ||
    std::is_same_v<T, boost::archive::class_name_type>;

[[noreturn]] CAROM_API void throw_bookkeeping();

/// What `serialize` functions keep in an archive by get_helper.
struct archive_helpers : boost::archive::detail::helper_collection {};

/// What a user's `serialize` sees when a value is packed: a Boost archive without header, class ids
/// and versions, that writes in host byte order to a blob. Boost's own base would keep the tables
/// of its pointer tracking, which is not in use: an allocation for each archive.
class packed_oarchive : public byte_writer,
                        public boost::archive::detail::interface_oarchive<packed_oarchive> {
 public:
  explicit packed_oarchive(blob& out) : byte_writer{out} {}
  packed_oarchive(const packed_oarchive&) = delete;
  packed_oarchive& operator=(const packed_oarchive&) = delete;

  template <class T>
  void save_override(const T& value) {
    if constexpr (boost_bookkeeping<T>)
      throw_bookkeeping();
    else
      detail::pack(*this, value);
  }
  void save_binary(const void* bytes, std::size_t count) { put(bytes, count); }

  static boost::serialization::library_version_type get_library_version() {
    return boost::serialization::library_version_type{boost::archive::BOOST_ARCHIVE_VERSION()};
  }
  static unsigned get_flags() noexcept { return boost::archive::no_header; }
  static void end_preamble() noexcept {}
  boost::archive::detail::helper_collection& get_helper_collection() {
    if (!helpers_) helpers_.emplace();
    return *helpers_;
  }

  /// Lets a class be reached through a pointer to its base, as BOOST_CLASS_EXPORT does. Both ends
  /// must do it.
  template <class T>
  const void* register_type(const T* = nullptr) {
    if constexpr (!std::is_abstract_v<T>)
      (void)polymorphic_type<T, packed_oarchive, packed_iarchive>::registered;
    return nullptr;
  }

  int& depth() noexcept { return depth_; }
  shared_objects_out& shared_objects() {
    if (!shared_objects_) shared_objects_.emplace();
    return *shared_objects_;
  }
  /// Begins a message that shares nothing with the one before, nor what helpers remember.
  void start_anew() noexcept {
    shared_objects_.reset();
    helpers_.reset();
  }

 private:
  int depth_ = 0;
  std::optional<shared_objects_out> shared_objects_;
  std::optional<archive_helpers> helpers_;
};

}  // namespace carom::detail

BOOST_SERIALIZATION_REGISTER_ARCHIVE(carom::detail::packed_oarchive)
