"use strict";
// A button.copy copies the text of the element that its data-of names.
document.addEventListener("click", async ({ target }) => {
  const button = target.closest("button.copy");
  if (!button || button.dataset.label) return; // one that is still saying so
  const text = document.getElementById(button.dataset.of);
  button.dataset.label = button.textContent;
  try {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(text);
    button.textContent = "Selected: Ctrl+C";
  }
  setTimeout(() => {
    button.textContent = button.dataset.label;
    delete button.dataset.label;
  }, 2500);
});
