// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/codec.hpp>

#include <boost/serialization/access.hpp>
#include <boost/serialization/base_object.hpp>
#include <boost/serialization/binary_object.hpp>
#include <boost/serialization/export.hpp>
#include <boost/serialization/map.hpp>
#include <boost/serialization/nvp.hpp>
#include <boost/serialization/split_free.hpp>
#include <boost/serialization/split_member.hpp>

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

// The kinds of user types that travel, for the tests and the fuzz targets.

namespace travelling {

enum class colour : std::uint8_t { red, green, blue };

struct record {
  int id = 0;
  double weight = 0;
  std::string name;
  std::vector<int> values;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& BOOST_SERIALIZATION_NVP(id) & weight& name& values;
  }
  bool operator==(const record&) const = default;
};

struct empty {
  template <class Archive>
  void serialize(Archive&, unsigned) {}
  auto operator<=>(const empty&) const = default;
};

/// Large in memory, one byte on the wire.
struct bulky {
  bool used = false;
  char room[4096] = {};

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& used;
  }
  bool operator==(const bulky& other) const { return used == other.used; }
};

/// `serialize` and default constructor are Boost's business only.
class secretive {
 public:
  explicit secretive(int value) : value_{value} {}
  bool operator==(const secretive&) const = default;

 private:
  friend class boost::serialization::access;
  secretive() = default;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& value_;
  }
  int value_ = 0;
};

/// Writes a text in full when its archive meets it first, and from then on by its number there.
struct interned {
  struct table {
    std::map<std::string, std::uint32_t> numbers;
    std::vector<std::string> texts;
  };
  inline static char table_id = 0;
  std::string text;

  template <class Archive>
  void save(Archive& archive, unsigned) const {
    auto& known = archive.template get_helper<table>(&table_id).numbers;
    const auto [at, is_new] = known.emplace(text, static_cast<std::uint32_t>(known.size()));
    archive << at->second;
    if (is_new) archive << text;
  }
  template <class Archive>
  void load(Archive& archive, unsigned) {
    auto& known = archive.template get_helper<table>(&table_id).texts;
    std::uint32_t number = 0;
    archive >> number;
    if (number == known.size()) archive >> known.emplace_back();
    text = known.at(number);
  }
  BOOST_SERIALIZATION_SPLIT_MEMBER()
  bool operator==(const interned&) const = default;
};

/// A map that is left to Boost's own functions.
struct boosts_own {
  std::map<int, std::string> texts;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    boost::serialization::serialize(archive, texts, 0U);
  }
  bool operator==(const boosts_own&) const = default;
};

/// No default constructor: built from its construction data.
class built {
 public:
  explicit built(std::string name) : name_{std::move(name)} {}
  const std::string& name() const { return name_; }
  int visits = 0;
  bool operator==(const built&) const = default;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& visits;
  }

 private:
  std::string name_;
};
template <class Archive>
void save_construct_data(Archive& archive, const built* value, unsigned) {
  archive << value->name();
}
template <class Archive>
void load_construct_data(Archive& archive, built* value, unsigned) {
  std::string name;
  archive >> name;
  ::new (value) built(name);
}

struct split {
  std::uint16_t value = 0;

  template <class Archive>
  void save(Archive& archive, unsigned) const {
    archive << static_cast<std::uint32_t>(value);
  }
  template <class Archive>
  void load(Archive& archive, unsigned) {
    std::uint32_t wide = 0;
    archive >> wide;
    if (wide > 0xffff) throw std::out_of_range("too wide");
    value = static_cast<std::uint16_t>(wide);
  }
  BOOST_SERIALIZATION_SPLIT_MEMBER()
  bool operator==(const split&) const = default;
};

struct free_function {
  int value = 0;
  bool operator==(const free_function&) const = default;
};
template <class Archive>
void serialize(Archive& archive, free_function& value, unsigned) {
  archive& value.value;
}

struct arrays {
  char text[8] = "abc";
  int numbers[3] = {1, 2, 3};
  std::string names[2] = {"x", "y"};
  unsigned char blob[5] = {9, 8, 7, 6, 5};

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& text& numbers& names& boost::serialization::make_binary_object(blob, sizeof blob);
    archive& boost::serialization::make_array(numbers, 3);
  }
  bool operator==(const arrays&) const = default;
};

/// Copied byte by byte, as BOOST_IS_BITWISE_SERIALIZABLE says.
struct bitwise {
  int x = 0, y = 0;
  bool operator==(const bitwise&) const = default;
};

struct tree {
  int value = 0;
  std::vector<tree> children;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& value& children;
  }
  bool operator==(const tree&) const = default;
};

struct chain {
  int value = 0;
  std::unique_ptr<chain> next;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& value& next;
  }
};

/// Children own each other downwards and know their parent.
struct family {
  int value = 0;
  std::weak_ptr<family> parent;
  std::vector<std::shared_ptr<family>> children;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& value& parent& children;
  }
};

struct ring {
  std::shared_ptr<ring> next;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& next;
  }
};

struct shape {
  virtual ~shape() = default;
  virtual double area() const = 0;
  int id = 0;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& id;
  }
};
struct square : shape {
  double side = 0;
  double area() const override { return side * side; }

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& boost::serialization::base_object<shape>(*this) & side;
  }
};
struct named {
  virtual ~named() = default;
  std::string name;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& name;
  }
};
/// Its bases begin at different addresses.
struct flag : named, shape {
  std::vector<colour> stripes;
  double area() const override { return static_cast<double>(stripes.size()); }

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& boost::serialization::base_object<named>(*this);
    archive& boost::serialization::base_object<shape>(*this);
    archive& stripes;
  }
};
/// Exported, and no shape.
struct stranger {
  virtual ~stranger() = default;
  int value = 0;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& value;
  }
};
/// A shape that is not exported.
struct secret_shape : square {};

}  // namespace travelling

BOOST_IS_BITWISE_SERIALIZABLE(travelling::bitwise)
BOOST_CLASS_EXPORT_KEY(travelling::square)
BOOST_CLASS_EXPORT_KEY(travelling::flag)
BOOST_CLASS_EXPORT_KEY(travelling::stranger)
