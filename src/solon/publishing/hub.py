"""Sending parcels to the Hugging Face hub, or to any server with its API (``HF_ENDPOINT``)."""

from collections.abc import Sequence
from typing import Any

from solon.errors import SolonError, first_line
from solon.publishing.parcel import Parcel

MENDS = {
    401: "log in with 'hf auth login', or set HF_TOKEN to a token that may write",
    403: "its token may not write there: make one that may, or name a repository of your own",
    404: "name a repository of your own as OWNER/NAME",
}


def send(parcels: Sequence[Parcel], message: str, public: bool = False) -> list[str]:
    """Put each parcel into its repository, in one commit each, and return where they are.

    Repositories that are not there are made, private unless ``public``. Files that are there already with the
    same content are not sent again, so that a broken upload goes on. Raises SolonError where the hub does not
    take it, and, before anything is sent, where a repository is there and is not as private as was asked.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants

    api = HfApi(endpoint=constants.ENDPOINT, library_name="solon")
    try:
        _as_asked(api, parcels, public)
        for parcel in parcels:
            api.create_repo(
                parcel.repository, repo_type=parcel.kind, private=None if public else True, exist_ok=True
            )
        sent = []
        for parcel in parcels:
            files = [CommitOperationAdd(name, file.path) for name, file in parcel.files.items()]
            commit = api.create_commit(
                parcel.repository, files, commit_message=message, repo_type=parcel.kind
            )
            sent.append(str(commit.repo_url))
    except SolonError:
        raise
    except Exception as error:  # of the client, of its HTTP library, of the file system
        raise SolonError(_says(error)) from error
    return sent


def _as_asked(api: Any, parcels: Sequence[Parcel], public: bool) -> None:
    """Raises SolonError where one is there already, public and not to be, or the other way round."""
    for parcel in parcels:
        if not api.repo_exists(parcel.repository, repo_type=parcel.kind):
            continue
        if api.repo_info(parcel.repository, repo_type=parcel.kind).private == public:
            now, mend = (
                ("private", "make it public on the hub first, or leave --public out")
                if public
                else ("public", "give another name, or --public if all may read it")
            )
            raise SolonError(
                f"the {parcel.kind} {parcel.repository} is there already and is {now}, so nothing was sent: "
                + mend
            )


def check_name(repository: str) -> None:
    """Raises SolonError for what no repository can be called."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise SolonError(f"{repository!r} is no name for a repository ({first_line(error)})") from None
    if "/" not in repository:
        raise SolonError(
            f"{repository!r} does not say whose it is: write OWNER/NAME, with your name on the hub"
        )


def _says(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    mend = MENDS.get(status or 0, "see that it can be reached, and give the same command again: it goes on")
    return f"the hub did not take it ({first_line(error)}): {mend}"
