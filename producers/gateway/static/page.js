"use strict";
// Everything on this page comes from the gateway that served it, by /v1 as any client sees it.

const at = (id) => document.getElementById(id);
const KINDS = ["accepted", "correction", "bonus", "target"];

at("key").value = sessionStorage.getItem("key") ?? "";
at("key").addEventListener("change", () => {
  sessionStorage.setItem("key", at("key").value);
  listModels();
  document.dispatchEvent(new Event("key"));
});

function headers() {
  const key = at("key").value.trim();
  return { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
}

async function complaint(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return `the gateway answered ${answer.status}`;
  }
}

/** Yield what each event of a stream says, as JSON. */
async function* events(answer) {
  let kept = "";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    kept += value;
    const lines = kept.split("\n");
    kept = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
    }
  }
}

// The prompt box

let generating = null;

function show(text, kind) {
  const piece = document.createElement("span");
  piece.className = kind;
  piece.textContent = text;
  at("text").append(piece);
}

async function generate() {
  generating = new AbortController();
  at("run").textContent = "Stop";
  const counts = Object.fromEntries(KINDS.map((kind) => [kind, 0]));
  at("text").replaceChildren();
  at("figures").textContent = "";
  show(at("prompt").value, "prompt");
  try {
    const answer = await fetch("v1/completions", {
      method: "POST",
      headers: headers(),
      signal: generating.signal,
      body: JSON.stringify({
        model: at("model").value,
        prompt: at("prompt").value,
        max_tokens: Number(at("tokens").value),
        temperature: Number(at("temperature").value),
        stream: true,
        return_tokens: true,
      }),
    });
    if (!answer.ok) throw new Error(await complaint(answer));
    for await (const chunk of events(answer)) {
      if (chunk.error) throw new Error(chunk.error.message);
      for (const token of chunk.choices[0]?.tokens ?? []) {
        counts[token.kind] += 1;
        at(`count-${token.kind}`).textContent = counts[token.kind];
        show(token.text, token.kind);
      }
      if (chunk.metrics) showFigures(chunk.metrics, counts);
    }
  } catch (error) {
    if (error.name !== "AbortError") show(`\n${error.message}`, "error");
  } finally {
    generating = null;
    at("run").textContent = "Generate";
  }
}

function showFigures(metrics, counts) {
  const tokens = KINDS.reduce((sum, kind) => sum + counts[kind], 0);
  const rate = metrics.draft_acceptance_rate === null ? "no drafts" : `${(100 * metrics.draft_acceptance_rate).toFixed(0)} % of drafts accepted`;
  at("figures").textContent =
    `${tokens} tokens, ${rate}, first token after ${metrics.time_to_first_token_ms.toFixed(0)} ms, ` +
    `${((1000 * tokens) / metrics.duration_ms).toFixed(0)} tokens/s`;
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (generating) generating.abort();
  else generate();
});

/** Offer the models that are served; one that was chosen stays so. */
async function listModels() {
  try {
    const answer = await fetch("v1/models", { headers: headers() });
    if (!answer.ok) throw new Error(await complaint(answer));
    const names = (await answer.json()).data.map((model) => model.id);
    const chosen = at("model").value;
    at("model").replaceChildren(...names.map((name) => new Option(name)));
    if (names.includes(chosen)) at("model").value = chosen;
    at("state").textContent = names.length ? "" : "no verifier serves a model yet";
  } catch (error) {
    at("state").textContent = error instanceof TypeError ? "the gateway does not answer" : error.message;
  }
}

listModels();
document.addEventListener("models", listModels);
