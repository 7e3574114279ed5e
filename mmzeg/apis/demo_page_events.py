"""What the demo page does at its events: an upload, other class names, a slider, a click, a request for files."""

from collections.abc import Callable

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder, is_in_or_equal

from mmzeg.apis.demo_page_html import class_chips, error_message, explanation_html, legend_table
from mmzeg.apis.demo_session import Session, parse_typed_names
from mmzeg.apis.inferencer import ZeroShotInferencer
from mmzeg.models.segmentors import ProposalSegmentor, ZegFormer

# Fusion modes that the page compares, and their titles.
MODES = {
    'seg': 'text classifier (seg)',
    'img': 'CLIP (img)',
    'full': 'ensemble (full)',
    'geometric': 'ensemble (geometric)',
}
# Seconds for which a session is kept after its last event.
SESSION_SECONDS = 1800
NO_SESSION = f'no segmented image: give one first (it is kept for {SESSION_SECONDS // 60} minutes)'
NO_FILES = gr.update(value=None, visible=False)


class EventHandlers:
    """Event handlers of the demo page. The state of a user comes in as ``session`` and is returned.

    Args:
        inferencer (ZeroShotInferencer): The model.
    """

    def __init__(self, inferencer: ZeroShotInferencer) -> None:
        self.inferencer = inferencer
        # One result per mode.
        self.modes = _modes_of(inferencer.model)
        # No results, legend, explanation and files.
        self.blank = [*[None] * len(self.modes), '', '', NO_FILES]

    def load_image(self, upload: dict | None, text: str, gamma: float, lam: float) -> list:
        """Encode an uploaded image and segment it; None clears the page.

        Args:
            upload (dict, optional): As the browser sends it, not preprocessed by Gradio.
            text (str): Typed class names.
            gamma, lam (float): Values of the sliders.

        Returns:
            list: Session, message, results, legend, explanation and files.
        """
        if upload is None:
            return [None, '', *self.blank]
        path = str(upload.get('path'))
        try:
            # A request written by hand could name any file of this machine.
            if not is_in_or_equal(path, get_upload_folder()):
                raise ValueError('not an uploaded file')
            session = Session.start(self.inferencer, path)
        except (OSError, ValueError) as error:
            return [None, error_message(error, path), *self.blank]
        return self.classify(session, text, gamma, lam)

    def classify(self, session: Session | None, text: str, gamma: float, lam: float) -> list:
        """Segment the image with other class names; returns the same as ``load_image``."""
        if session is None:
            return [None, error_message(NO_SESSION), *self.blank]
        try:
            session = session.classify(self.inferencer, parse_typed_names(text))
        except ValueError as error:
            return [session.classify(self.inferencer, None), error_message(error), *self.blank]
        return [session, '', *self.redraw(session, gamma, lam), '', NO_FILES]

    def redraw(self, session: Session | None, gamma: float, lam: float) -> list:
        """Return results and legend for other values of the sliders."""
        if session is None or session.preview is None:
            return [gr.skip()] * (len(self.modes) + 1)
        drawings = []
        areas = {}
        for mode in self.modes:
            drawing, areas[mode] = session.draw(self.inferencer.fusion(mode, lam, gamma))
            drawings.append(drawing)
        return [*drawings, legend_table(session.predictions.vocabulary, areas)]

    def click_handler(self, mode: str) -> Callable:
        """Return the handler of a click on the result of a mode."""

        def on_click(session: Session | None, gamma: float, lam: float, event: gr.SelectData) -> list:
            x, y = None, None
            if session is not None and session.preview is not None:
                x, y = session.original_pixel(*event.index)
            return self.explain_pixel(session, mode, x, y, gamma, lam)

        return on_click

    def explain_pixel(
        self, session: Session | None, mode: str, x: int | None, y: int | None, gamma: float, lam: float
    ) -> list:
        """Return the results, that of the mode with the outline of the pixel's segment, and the explanation."""
        results = [gr.skip()] * len(self.modes)
        if session is None or session.preview is None:
            return [*results, error_message(NO_SESSION)]
        if x is None or y is None:
            return [*results, error_message('no pixel: give x and y')]
        try:
            fusion = self.inferencer.fusion(mode, lam, gamma)
            drawing, explanation = session.explain_pixel(fusion, int(x), int(y))
        except ValueError as error:
            return [*results, error_message(error)]
        results[self.modes.index(mode)] = drawing
        return [*results, explanation_html(explanation, session.predictions.vocabulary, mode)]

    def make_files(self, session: Session | None, mode: str, gamma: float, lam: float) -> tuple:
        """Write label map and JSON where Gradio serves and deletes them; returns the files and a message."""
        if session is None or session.preview is None:
            return NO_FILES, error_message(NO_SESSION)
        contents = session.result_files(self.inferencer.fusion(mode, lam, gamma))
        paths = [save_bytes_to_cache(data, name, get_upload_folder()) for name, data in contents.items()]
        return gr.update(value=paths, visible=True), ''

    def parsed_names(self, text: str) -> str:
        """Return the class names of the text that is being typed, as HTML."""
        try:
            return class_chips(parse_typed_names(text), self.inferencer.train_vocabulary.names)
        except ValueError as error:
            return error_message(error)


def _modes_of(model: ZegFormer) -> list[str]:
    """Return the modes that the page compares: those of the model's branches, and their ensemble."""
    if model.scorer is None:
        return ['seg']
    ensemble = 'geometric' if model.fusion.mode == 'geometric' else 'full'
    # The masks of a ProposalSegmentor have no classes of their own.
    return [ensemble] if isinstance(model, ProposalSegmentor) else ['seg', 'img', ensemble]
