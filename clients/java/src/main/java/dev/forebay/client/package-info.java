/**
 * Java client of Forebay: predict, place, report, explain and watch over gRPC.
 *
 * <p>{@link dev.forebay.client.ForebayClient} talks to predictor, scheduler and autoscaler, {@link
 * dev.forebay.client.DeferredClient} to a gateway about jobs that nobody waits for. Every verb fails with {@link
 * dev.forebay.client.ForebayException}. The messages are those of the contract, generated in {@code lmaas}.
 */
package dev.forebay.client;
