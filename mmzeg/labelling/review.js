'use strict';

// Marks: a set of file names, which this browser keeps under the key of the settings.
const key = `mmzeg-review-${document.body.dataset.key}`;
const element = (id) => document.getElementById(id);
const list = document.querySelector('#marked ul');

function load() {
  try {
    const files = JSON.parse(localStorage.getItem(key));
    return new Set(Array.isArray(files) ? files : []);
  } catch {
    return new Set();
  }
}

function save() {
  try {
    localStorage.setItem(key, JSON.stringify([...marks]));
  } catch {
    element('warning').textContent = 'This browser keeps no marks: export the list before you leave this page.';
  }
}

let marks = new Set();

// Show the marks at every thumbnail and in the list, which also has marked images that are no examples any more. An image
// stays in the list after it is unmarked there, so that one can mark it again.
function show() {
  const listed = new Set(Array.from(list.querySelectorAll('input'), (box) => box.value));
  for (const file of [...marks].sort()) {
    if (listed.has(file)) continue;
    const box = Object.assign(document.createElement('input'), { type: 'checkbox', value: file });
    const label = document.createElement('label');
    label.append(box, ` ${file}`);
    const item = document.createElement('li');
    item.append(label);
    list.append(item);
  }
  for (const box of document.querySelectorAll('input')) box.checked = marks.has(box.value);
  element('count').textContent = marks.size === 1 ? '1 image marked' : `${marks.size} images marked`;
  element('export').disabled = element('clear').disabled = marks.size === 0;
}

document.addEventListener('change', ({ target }) => {
  if (target.type !== 'checkbox') return;
  if (target.checked) marks.add(target.value);
  else marks.delete(target.value);
  save();
  show();
});

// Another tab has changed the marks.
addEventListener('storage', (event) => {
  if (event.key !== key && event.key !== null) return;
  marks = load();
  show();
});

element('clear').addEventListener('click', () => {
  if (!confirm(`Remove the marks of all images (${marks.size})?`)) return;
  marks = new Set();
  save();
  show();
});

element('export').addEventListener('click', () => {
  const lines = [...marks].sort().map((file) => `${file}\n`);
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob(lines, { type: 'text/plain' }));
  link.download = 'marked_images.txt';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
});

// The order of the classes, in the table as in the examples.
element('order').addEventListener('change', ({ target }) => {
  const sign = target.value === 'share' ? -1 : 1;
  const sections = [...document.querySelectorAll('#classes > section')];
  const value = (section) => sign * Number(section.dataset[target.value]);
  sections.sort((a, b) => value(a) - value(b) || a.dataset.index - b.dataset.index);
  element('classes').append(...sections);
  for (const section of sections) {
    const row = document.querySelector(`nav a[href="#${section.id}"]`).closest('tr');
    row.parentNode.append(row);
  }
});

// After loading and after the "Back" button: browsers restore checkboxes as they once were.
addEventListener('pageshow', () => {
  marks = load();
  show();
});
