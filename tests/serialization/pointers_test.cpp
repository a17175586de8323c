// SPDX-License-Identifier: BSL-1.0
#include "tests/serialization/travelling_types.hpp"

#include <gtest/gtest.h>

namespace {

using carom::encoding_error;
using carom::detail::blob;
using carom::detail::decode;
using carom::detail::encode;
using namespace travelling;

template <class... Ts>
std::tuple<Ts...> travel(const Ts&... values) {
  blob out;
  encode(out, values...);
  return decode<Ts...>(out.bytes());
}

/// The message of the encoding_error that `act` must throw.
template <class F>
std::string refusal(F act) {
  try {
    act();
  } catch (const encoding_error& error) {
    return error.what();
  }
  return "not refused";
}

TEST(Pointers, null_travels) {
  const auto [unique, shared, weak] =
      travel(std::unique_ptr<record>{}, std::shared_ptr<shape>{}, std::weak_ptr<record>{});
  EXPECT_EQ(unique, nullptr);
  EXPECT_EQ(shared, nullptr);
  EXPECT_TRUE(weak.expired());
}

TEST(Pointers, an_object_shared_by_two_arguments_is_one_object_there) {
  const auto value = std::make_shared<record>();
  const auto [first, second] = travel(value, value);
  EXPECT_EQ(first, second);
  EXPECT_EQ(first.use_count(), 2);
}

TEST(Pointers, an_object_shared_as_base_and_derived_is_one_object_there) {
  const auto value = std::make_shared<flag>();
  value->name = "both";
  const auto [as_flag, as_shape, as_named] =
      travel(value, std::shared_ptr<shape>{value}, std::shared_ptr<named>{value});
  EXPECT_EQ(as_shape.get(), as_flag.get());
  EXPECT_EQ(as_named.get(), as_flag.get());
  EXPECT_EQ(as_named->name, "both");
}

TEST(Pointers, a_derived_object_is_found_by_its_base_in_any_order) {
  const auto value = std::make_shared<flag>();
  const auto [as_shape, as_flag] = travel(std::shared_ptr<const shape>{value}, value);
  EXPECT_EQ(as_shape.get(), as_flag.get());
}

TEST(Pointers, equal_objects_that_are_not_shared_stay_apart) {
  const auto [first, second] = travel(std::make_shared<int>(1), std::make_shared<int>(1));
  EXPECT_NE(first, second);
}

TEST(Pointers, a_pointer_into_a_shared_object_becomes_an_object_of_its_own) {
  const auto whole = std::make_shared<record>(record{7, 1.5, "a record", {1, 2, 3}});
  const std::shared_ptr<int> part{whole, &whole->id};
  const auto [first, second] = travel(whole, part);
  EXPECT_EQ(*second, 7);
  EXPECT_NE(second.get(), &first->id);
}

TEST(Pointers, a_weak_pointer_to_what_nothing_else_owns_expires) {
  const auto value = std::make_shared<record>();
  const auto [weak] = travel(std::weak_ptr<record>{value});
  EXPECT_TRUE(weak.expired());
}

TEST(Pointers, a_weak_pointer_may_come_before_its_owner) {
  const auto value = std::make_shared<record>();
  const auto [weak, owner] = travel(std::weak_ptr<record>{value}, value);
  EXPECT_EQ(weak.lock(), owner);
}

TEST(Pointers, a_cycle_of_owners_is_refused_by_the_sender) {
  const auto one = std::make_shared<ring>();
  one->next = one;
  EXPECT_NE(refusal([&] { travel(one); }).find("weak_ptr"), std::string::npos);
  one->next = nullptr;
}

TEST(Pointers, a_cycle_of_owners_is_refused_by_the_receiver) {
  blob out;
  encode(out, std::uint8_t{1}, std::uint8_t{3}, std::uint32_t{0});
  EXPECT_THROW(decode<std::shared_ptr<ring>>(out.bytes()), encoding_error);
}

struct makes_temporaries {
  template <class Archive>
  void save(Archive& archive, unsigned) const {
    for (int i = 0; i < 10; ++i) archive << std::make_shared<int>(i);
  }
  template <class Archive>
  void load(Archive& archive, unsigned) {
    for (int i = 0; i < 10; ++i) {
      std::shared_ptr<int> value;
      archive >> value;
      numbers.push_back(*value);
    }
  }
  BOOST_SERIALIZATION_SPLIT_MEMBER()
  std::vector<int> numbers;
};

TEST(Pointers, a_temporary_object_is_not_taken_for_a_later_one_at_its_address) {
  const auto [result] = travel(makes_temporaries{});
  EXPECT_EQ(result.numbers, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(Pointers, a_class_that_is_not_exported_is_named) {
  const std::unique_ptr<shape> value = std::make_unique<secret_shape>();
  blob out;
  const auto message = refusal([&] { encode(out, value); });
  EXPECT_NE(message.find("BOOST_CLASS_EXPORT(travelling::secret_shape)"), std::string::npos)
      << message;
  EXPECT_TRUE(out.empty());
}

/// `mark`, then a class name, then `rest`.
blob derived(const std::string& name, std::size_t rest) {
  blob out;
  encode(out, std::uint8_t{2}, name);
  out.append(std::string(rest, '\0').data(), rest);
  return out;
}

TEST(Pointers, a_name_that_is_not_exported_is_refused) {
  const blob bytes = derived("travelling::nobody", 12);
  const auto message = refusal([&] { decode<std::unique_ptr<shape>>(bytes.bytes()); });
  EXPECT_NE(message.find("travelling::nobody"), std::string::npos);
}

TEST(Pointers, an_exported_class_with_another_base_is_refused) {
  const blob bytes = derived("travelling::stranger", 4);
  const auto refuse = [&]<class T>(std::type_identity<T>) {
    return refusal([&] { decode<T>(bytes.bytes()); });
  };
  EXPECT_NE(refuse(std::type_identity<std::unique_ptr<shape>>{}).find("cannot point"),
            std::string::npos);
  EXPECT_NE(refuse(std::type_identity<std::shared_ptr<shape>>{}).find("cannot point"),
            std::string::npos);
  EXPECT_NE(refuse(std::type_identity<std::unique_ptr<record>>{}).find("virtual"),
            std::string::npos);
}

TEST(Pointers, a_reference_to_an_object_of_another_class_is_refused) {
  blob out;
  encode(out, std::make_shared<std::string>("text"), std::uint8_t{3}, std::uint32_t{0});
  EXPECT_THROW((decode<std::shared_ptr<std::string>, std::shared_ptr<record>>(out.bytes())),
               encoding_error);
  EXPECT_THROW((decode<std::shared_ptr<std::string>, std::shared_ptr<int>>(out.bytes())),
               encoding_error);
  const auto [first, second] =
      decode<std::shared_ptr<std::string>, std::shared_ptr<std::string>>(out.bytes());
  EXPECT_EQ(first, second);
}

TEST(Pointers, a_reference_to_an_object_that_never_came_is_refused) {
  for (const std::uint32_t number : {0U, 1U, ~0U}) {
    blob out;
    encode(out, std::uint8_t{3}, number);
    EXPECT_THROW(decode<std::shared_ptr<record>>(out.bytes()), encoding_error);
    EXPECT_THROW(decode<std::unique_ptr<record>>(out.bytes()), encoding_error);
  }
}

TEST(Pointers, an_object_of_an_abstract_class_or_an_unknown_mark_is_refused) {
  for (const std::uint8_t mark : {1, 4, 255}) {
    blob out;
    encode(out, mark, 0);
    EXPECT_THROW(decode<std::unique_ptr<shape>>(out.bytes()), encoding_error);
    EXPECT_THROW(decode<std::shared_ptr<shape>>(out.bytes()), encoding_error);
  }
}

struct registers_by_hand : shape {
  double area() const override { return 1; }
};
struct holder {
  std::unique_ptr<shape> value;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive.template register_type<registers_by_hand>();
    archive& value;
  }
};

TEST(Pointers, register_type_does_what_an_export_does) {
  holder value{std::make_unique<registers_by_hand>()};
  value.value->id = 9;
  const auto [result] = travel(value);
  EXPECT_EQ(result.value->id, 9);
  EXPECT_EQ(result.value->area(), 1);
}

struct alignas(64) aligned {
  explicit aligned(int number) : value{number} {}
  int value;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& value;
  }
};
template <class Archive>
void load_construct_data(Archive&, aligned* value, unsigned) {
  ::new (value) aligned(0);
}

TEST(Pointers, an_overaligned_object_without_default_constructor_is_aligned) {
  const auto [result] = travel(std::make_unique<aligned>(3));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(result.get()) % 64, 0U);
  EXPECT_EQ(result->value, 3);
}

}  // namespace
