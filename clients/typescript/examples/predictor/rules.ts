/** Checks a request against the rules that stand beside the fields in the contract. */

import { type DescField, type DescMessage, getOption, hasOption, type Message } from "@bufbuild/protobuf";
import { reflect, type ReflectList, type ReflectMessage } from "@bufbuild/protobuf/reflect";
import { type Duration, DurationSchema } from "@bufbuild/protobuf/wkt";

import { type Rules, rules } from "../../src/gen/lmaas/common/v1/rules_pb.js";

/** What is wrong with a message, by the path of the field; empty for one that keeps every rule. */
export function violationsOf(schema: DescMessage, message: Message): Record<string, string> {
  return Object.fromEntries(violations(reflect(schema, message), ""));
}

function* violations(message: ReflectMessage, prefix: string): Generator<[string, string]> {
  for (const field of message.fields) {
    const path = prefix + field.name;
    const text = hasOption(field, rules) ? broken(message, field, getOption(field, rules)) : "";
    if (text) yield [path, text];
    if (field.fieldKind === "list" && field.listKind === "message") {
      let index = 0;
      for (const item of message.get(field) as ReflectList<ReflectMessage>) yield* violations(item, `${path}[${index++}].`);
    } else if (field.fieldKind === "message" && message.isSet(field)) {
      yield* violations(message.get(field) as ReflectMessage, `${path}.`);
    }
  }
}

function broken(message: ReflectMessage, field: DescField, rule: Rules): string {
  const value: unknown = message.get(field);
  if (field.fieldKind === "list") return size((value as ReflectList).size, "items", rule.required, rule.maxItems);
  if (field.fieldKind === "enum") return rule.required && value === 0 ? `must be set to a ${field.enum.name}` : "";
  if (field.fieldKind === "message") {
    if (!message.isSet(field)) return rule.required ? "must be set" : "";
    return field.message.typeName === DurationSchema.typeName ? range(secondsOf(value as ReflectMessage), rule) : "";
  }
  if (typeof value === "string") return size(Buffer.byteLength(value), "bytes", rule.required, rule.maxLen);
  return typeof value === "number" || typeof value === "bigint" ? range(Number(value), rule) : "";
}

function secondsOf(value: ReflectMessage): number {
  const span = value.message as Duration;
  return Number(span.seconds) + span.nanos / 1e9;
}

function size(count: number, unit: string, required: boolean, most: number): string {
  if (required && count === 0) return "must not be empty";
  return most && count > most ? `has ${count} ${unit}; at most ${most} are allowed` : "";
}

function range(value: number, rule: Rules): string {
  if (Number.isNaN(value)) return "must be a number";
  if (rule.gte !== undefined && value < rule.gte) return `is ${value}; it must be at least ${rule.gte}`;
  return rule.lte !== undefined && value > rule.lte ? `is ${value}; it must be at most ${rule.lte}` : "";
}
