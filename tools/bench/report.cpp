// SPDX-License-Identifier: BSL-1.0
#include "report.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <ostream>

namespace bench {

namespace {

using line = std::array<std::string, 6>;

std::size_t display_width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string spread(const samples& values, unit measure) {
  if (values.size() < 2) return "";
  return "(" + readable(values.min(), measure) + " – " + readable(values.max(), measure) + ")";
}

std::string fixed(double value) {
  char text[32];
  std::snprintf(text, sizeof text, value >= 100 ? "%.0f" : value >= 10 ? "%.1f" : "%.2f", value);
  return text;
}

bool small_is_good(unit measure) {
  return measure == unit::microseconds || measure == unit::bytes ||
         measure == unit::wakeups_per_second;
}

std::string ratio_text(double ratio, unit measure) {
  std::string text = fixed(ratio) + " ×";
  if (small_is_good(measure) && ratio > 0 && ratio < 0.95)
    text += " (" + fixed(1 / ratio) + (measure == unit::microseconds ? " × faster)" : " × less)");
  return text;
}

const char* verdict(const target& goal, double value, judgement judge) {
  if (judge == judgement::not_judged) return "not judged";
  return goal.met(value) ? "met" : "MISSED";
}

line carom_line(const figure& measured, judgement judge) {
  const double value = measured.values.median();
  line cells{
      "carom", readable(value, measured.measure), spread(measured.values, measured.measure), "", "",
      ""};
  if (measured.goal) {
    cells[4] = measured.goal->text;
    cells[5] = verdict(*measured.goal, value, judge);
  }
  return cells;
}

line peer_line(const figure& measured, const comparison& against, judgement judge) {
  if (against.values.empty()) return {against.peer, "missing", against.missing, "", "", ""};
  line cells{against.peer,
             readable(against.values.median(), measured.measure),
             spread(against.values, measured.measure),
             "",
             "",
             ""};
  const auto quotient = ratio(measured, against);
  if (quotient) cells[3] = ratio_text(*quotient, measured.measure);
  if (against.goal) {
    cells[4] = against.goal->text;
    cells[5] = quotient ? verdict(*against.goal, *quotient, judge) : "not judged";
  }
  return cells;
}

nlohmann::ordered_json carom_json(const figure& measured) {
  return {{"name", measured.name},
          {"value", measured.values.median()},
          {"unit", name_of(measured.measure)},
          {"peer", nullptr},
          {"peer_value", nullptr},
          {"ratio", nullptr},
          {"min", measured.values.min()},
          {"max", measured.values.max()},
          {"repetitions", measured.values.size()}};
}

void add_goal(nlohmann::ordered_json& object, const std::optional<target>& goal,
              std::optional<double> value, judgement judge) {
  if (!goal) return;
  object["target"] = goal->text;
  if (value && judge == judgement::judged) object["met"] = goal->met(*value);
}

}  // namespace

void print_table(std::ostream& out, const figure& measured, judgement judge) {
  std::vector<line> lines{carom_line(measured, judge)};
  for (const comparison& each : measured.comparisons)
    lines.push_back(peer_line(measured, each, judge));
  // Wide enough for most rows, so that the tables of all rows stand under each other.
  std::array<std::size_t, 6> widths{22, 9, 21, 20, 12, 6};
  for (const line& cells : lines)
    for (std::size_t i = 0; i < cells.size(); ++i)
      if (cells[1] != "missing" || i != 2) widths[i] = std::max(widths[i], display_width(cells[i]));
  out << measured.name << "\n";
  for (const line& cells : lines) {
    std::string text = " ";
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::size_t width = display_width(cells[i]);
      const std::string padding(widths[i] > width ? widths[i] - width : 0, ' ');
      const bool right = i == 1 || i == 3;
      text += " " + (right ? padding + cells[i] : cells[i] + padding) + " ";
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out << text << "\n";
  }
  out << std::flush;
}

void print_json(std::ostream& out, const figure& measured, judgement judge) {
  if (measured.comparisons.empty() || measured.goal) {
    auto object = carom_json(measured);
    add_goal(object, measured.goal, measured.values.median(), judge);
    out << object.dump() << "\n";
  }
  for (const comparison& each : measured.comparisons) {
    auto object = carom_json(measured);
    object["peer"] = each.peer;
    if (each.values.empty()) {
      object["missing"] = each.missing;
    } else {
      object["peer_value"] = each.values.median();
      object["peer_min"] = each.values.min();
      object["peer_max"] = each.values.max();
    }
    const auto quotient = ratio(measured, each);
    if (quotient) object["ratio"] = *quotient;
    add_goal(object, each.goal, quotient, judge);
    out << object.dump() << "\n";
  }
  out << std::flush;
}

}  // namespace bench
