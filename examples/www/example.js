const hello = document.getElementById("hello");
const words = document.getElementById("words");

async function greet() {
  const names = hello.names.value.split(/\s+/).filter(Boolean).map(encodeURIComponent);
  const response = await fetch(["hello", ...names].join("/"));
  hello.querySelector("output").textContent = await response.text();
}

async function count() {
  const response = await fetch("words", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ text: words.text.value }),
  });
  const { letters, words: number, frequent } = await response.json();
  const top = frequent.map(([word, times]) => `${word} ×${times}`).join(", ");
  words.querySelector("output").textContent = `${number} words, ${letters} letters. ${top}`;
}

for (const [form, update] of [[hello, greet], [words, count]]) {
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
}
