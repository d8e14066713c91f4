const byId = (id) => document.getElementById(id);

// `#Ada` in the address shows what Ada wrote, no name shows everything.
async function show() {
  const name = decodeURIComponent(location.hash.slice(1));
  const source = name ? `guests/${encodeURIComponent(name)}` : "guests";
  const response = await fetch(source);
  const entries = response.ok ? await response.json() : [];
  byId("title").textContent = name ? `Entries of ${name}` : "All entries";
  byId("source").textContent = byId("source").href = source;
  byId("entries").replaceChildren(...entries.map(quote).reverse());
}

function quote({ name, text }) {
  const author = document.createElement("a");
  author.textContent = name;
  author.href = location.hash ? "#" : `#${encodeURIComponent(name)}`;
  const cite = document.createElement("cite");
  cite.append("– ", author);
  const element = document.createElement("blockquote");
  element.append(text, " ", cite);
  return element;
}

byId("slow").addEventListener("click", async ({ target }) => {
  target.disabled = true;
  byId("slow-answer").textContent = "…";
  const response = await fetch("slow");
  byId("slow-answer").textContent = await response.text();
  target.disabled = false;
});

addEventListener("hashchange", show);
show();
